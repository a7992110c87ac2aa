-- Writes down every change of state of every job, in the transaction that makes it.
create schema chaos;
create table chaos.log (
    seq bigint generated always as identity,
    at timestamptz not null default clock_timestamp(),
    what text not null,
    job bigint not null,
    claim bigint,
    attempts integer,
    crashes integer,
    max_attempts integer,
    due_at timestamptz,
    claimed_at timestamptz,
    said text,
    -- The first line of the statement that gave the job back.
    by text
);
create index on chaos.log (job);
create table chaos.effects (job bigint not null, at timestamptz not null default clock_timestamp());

create function chaos.note() returns trigger language plpgsql as $$
declare
    what text;
begin
    if tg_op = 'UPDATE' then
        what := case
            when old.state = 'available' and new.state = 'running' then 'claimed'
            when old.state = 'running' and new.state = 'available' then 'returned'
            -- Handed over, before it has begun, to a process of its own.
            when old.claim_id is distinct from new.claim_id and new.crashes > 0 then 'handed'
            when old.claim_id is distinct from new.claim_id then 'stolen'
        end;
        if what is not null then
            insert into chaos.log (what, job, claim, attempts, crashes, max_attempts, due_at, claimed_at, said, by)
            values (what, new.id, case what when 'returned' then old.claim_id else new.claim_id end, new.attempts,
                new.crashes, new.max_attempts, new.due_at, new.claimed_at,
                case when what = 'returned' and new.last_error is distinct from old.last_error then new.last_error end,
                case when what = 'returned' then split_part(current_query(), e'\n', 1) end);
        end if;
    elsif tg_op = 'INSERT' then
        insert into chaos.log (what, job, attempts, max_attempts, due_at, said)
        values ('enqueued', new.id, new.attempts, new.max_attempts, new.due_at, new.unique_key);
    else
        insert into chaos.log (what, job, claim, attempts, crashes, max_attempts)
        values ('removed', old.id, old.claim_id, old.attempts, old.crashes, old.max_attempts);
    end if;
    return null;
end $$;
create function chaos.note_finished() returns trigger language plpgsql as $$
begin
    insert into chaos.log (what, job, attempts, crashes, max_attempts, said)
    values (new.state, new.id, new.attempts, new.crashes, new.max_attempts, new.result ->> 'claim');
    return null;
end $$;
create function chaos.note_dead() returns trigger language plpgsql as $$
begin
    insert into chaos.log (what, job, claim, attempts, crashes, max_attempts, said)
    values ('dead', new.id, new.claim_id, new.attempts, new.crashes, new.max_attempts, new.reason || ': ' || new.last_error);
    return null;
end $$;
create trigger chaos_note after insert or update or delete on rowcrew.jobs for each row execute function chaos.note();
create trigger chaos_finished after insert on rowcrew.finished_jobs for each row execute function chaos.note_finished();
create trigger chaos_dead after insert on rowcrew.dead_jobs for each row execute function chaos.note_dead();
