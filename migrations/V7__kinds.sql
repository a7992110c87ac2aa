-- Kinds that may not begin now: paused by people, or because whoever they call has asked for quiet or is gone.
-- Locks: creates a table and functions; replaces the function why and the view blocked, each for a moment.

create table rowcrew.kinds (
    name text not null,
    paused_until timestamptz,
    disabled_at timestamptz,
    reason text,
    paused_by text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint kinds_pkey primary key (name),
    constraint kinds_name_length check (length(name) between 1 and 200),
    constraint kinds_reason_length check (length(reason) <= 1000)
);
comment on table rowcrew.kinds is
    'Pauses of kinds. A kind needs no row here. Workers read this table every second and ask for no jobs of a paused kind.';
comment on column rowcrew.kinds.name is 'As in jobs.kind.';
comment on column rowcrew.kinds.paused_until is 'No job of it begins before this moment; infinity: until resumed.';
comment on column rowcrew.kinds.disabled_at is 'When whoever it calls said that it wants no more calls (410 Gone); somebody must resume the kind.';
comment on column rowcrew.kinds.reason is 'Why it is paused.';
comment on column rowcrew.kinds.paused_by is 'The database user who paused it; a worker does so in the name of its own.';
comment on column rowcrew.kinds.created_at is 'When it was first paused.';
comment on column rowcrew.kinds.updated_at is 'When it was last paused or resumed.';

create function rowcrew.pause_kind(kind text, until timestamptz default null, reason text default null) returns void
language plpgsql as $$
begin
    insert into rowcrew.kinds as k (name, paused_until, reason, paused_by)
    values (pause_kind.kind, coalesce(pause_kind.until, 'infinity'), left(pause_kind.reason, 1000), session_user)
    on conflict (name) do update
    set paused_until = excluded.paused_until, disabled_at = null, reason = excluded.reason,
        paused_by = excluded.paused_by, updated_at = clock_timestamp();
    perform pg_notify('rowcrew_jobs', 'kinds ' || 'rowcrew');
    perform rowcrew.record_event('pause', 'kind ' || pause_kind.kind, jsonb_strip_nulls(jsonb_build_object(
        'until', pause_kind.until, 'reason', pause_kind.reason)));
end
$$;
comment on function rowcrew.pause_kind(text, timestamptz, text) is
    'No more jobs of the kind begin, in any queue, until that moment or until it is resumed; those running go on.';

create function rowcrew.resume_kind(kind text) returns boolean
language plpgsql as $$
begin
    update rowcrew.kinds k
    set paused_until = null, disabled_at = null, reason = null, paused_by = null, updated_at = clock_timestamp()
    where k.name = resume_kind.kind and k.paused_until > clock_timestamp();
    if not found then
        return false;
    end if;
    perform pg_notify('rowcrew_jobs', 'kinds ' || 'rowcrew');
    perform rowcrew.record_event('resume', 'kind ' || resume_kind.kind, null);
    return true;
end
$$;
comment on function rowcrew.resume_kind(text) is
    'Ends the pause of a kind, also of one that is disabled; answers whether there was one.';

create function rowcrew.hold_kind(kind text, span interval, reason text) returns boolean
language plpgsql as $$
declare
    until timestamptz := coalesce(clock_timestamp() + hold_kind.span, 'infinity');
begin
    insert into rowcrew.kinds as k (name, paused_until, disabled_at, reason, paused_by)
    values (hold_kind.kind, until, case when hold_kind.span is null then clock_timestamp() end,
            left(hold_kind.reason, 1000), session_user)
    on conflict (name) do update
    set paused_until = excluded.paused_until, disabled_at = excluded.disabled_at, reason = excluded.reason,
        paused_by = excluded.paused_by, updated_at = clock_timestamp()
    -- A pause is never shortened, and many replies that say the same are one pause and one event.
    where k.paused_until is null or k.paused_until < excluded.paused_until - interval '1 second';
    if not found then
        return false;
    end if;
    perform pg_notify('rowcrew_jobs', 'kinds ' || 'rowcrew');
    perform rowcrew.record_event(case when hold_kind.span is null then 'disable' else 'pause' end,
        'kind ' || hold_kind.kind, jsonb_build_object('until', until, 'reason', hold_kind.reason));
    return true;
end
$$;
comment on function rowcrew.hold_kind(text, interval, text) is
    'What workers call: pauses a kind for so long, by the clock of the database, or (null) disables it. Never shortens a pause; answers whether it changed anything.';

create function rowcrew.kind_pause(kind text) returns text
language sql stable as $$
    select
        case when k.disabled_at is not null then 'disabled since ' || k.disabled_at
            when k.paused_until = 'infinity' then 'paused until somebody resumes it'
            else 'paused until ' || k.paused_until end
        || coalesce(', because ' || k.reason, '')
    from rowcrew.kinds k
    where k.name = $1 and k.paused_until > clock_timestamp()
$$;
comment on function rowcrew.kind_pause(text) is 'In words, until when and why a kind is paused; null when it is not.';

create or replace view rowcrew.blocked as
select j.id, j.kind, j.queue, j.created_at, rowcrew_why.reason
from rowcrew.jobs j
cross join lateral (
    select case
        when j.state = 'waiting' then 'waits for other jobs'
        when j.due_at = 'infinity' then 'parked: run_at is infinity'
        when exists (select from rowcrew.queues q where q.name = j.queue and q.paused_until > now())
            then 'its queue is paused'
        when exists (select from rowcrew.kinds k where k.name = j.kind and k.paused_until > now())
            then 'its kind is paused'
        when not exists (select from rowcrew.workers w where j.kind = any (w.kinds) and j.queue = any (w.queues))
            then 'no live worker serves its kind in its queue'
    end as reason
) rowcrew_why
where j.shard = 0 and j.state <> 'running' and rowcrew_why.reason is not null;

create or replace function rowcrew.why(id bigint) returns text
language plpgsql stable as $$
declare
    job record;
    paused timestamptz;
    kind_paused text;
    ahead bigint;
begin
    select j.* into job from rowcrew.jobs j where j.shard = 0 and j.id = why.id;
    if not found then
        select 'Job ' || s.id || ' is ' || s.state || ' since ' || s.ended_at ||
            case when s.state = 'dead' then ': ' || coalesce(s.last_error, 'no error recorded') else '' end || '.'
        into job from rowcrew.job_status s where s.id = why.id;
        if found then
            return job."?column?";
        end if;
        return 'There is no job ' || why.id || ': it never was, or its time to be kept is over.';
    end if;
    if job.state = 'running' then
        return format('Job %s runs since %s in worker %s (attempt %s)%s.', job.id, job.claimed_at,
            coalesce((select w.name || ', id ' || w.id from rowcrew.workers w where w.id = job.claimed_by),
                job.claimed_by || ', which is lost; its jobs will be given back'),
            job.attempts, case when job.cancel_requested_at is not null then '; its cancellation was asked for' else '' end);
    elsif job.state = 'waiting' then
        return format('Job %s waits for other jobs.', job.id);
    elsif job.due_at = 'infinity' then
        return format('Job %s is parked: its run_at is infinity. Set run_at to run it.', job.id);
    end if;
    kind_paused := rowcrew.kind_pause(job.kind);
    if job.due_at > now() and job.retry_at is not null and kind_paused is not null then
        return format('Job %s waits until %s, and its kind %s is %s.', job.id, job.retry_at, job.kind, kind_paused);
    elsif job.due_at > now() and job.retry_at is not null then
        return format('Job %s failed and is tried again at %s: %s', job.id, job.retry_at, job.last_error);
    elsif job.due_at > now() then
        return format('Job %s is scheduled for %s.', job.id, job.run_at);
    end if;
    select q.paused_until into paused from rowcrew.queues q where q.name = job.queue and q.paused_until > now();
    if found then
        return format('Job %s is due, but its queue %s is paused %s.', job.id, job.queue,
            case when paused = 'infinity' then 'until somebody resumes it' else 'until ' || paused end);
    elsif kind_paused is not null then
        return format('Job %s is due, but its kind %s is %s.', job.id, job.kind, kind_paused);
    elsif not exists (select from rowcrew.workers) then
        return format('Job %s is due, but no worker is alive. Start one: rowcrew work.', job.id);
    elsif not exists (select from rowcrew.workers w where job.kind = any (w.kinds)) then
        return format('Job %s is due, but no live worker serves kind %s. It waits until one does.', job.id, job.kind);
    elsif not exists (select from rowcrew.workers w where job.kind = any (w.kinds) and job.queue = any (w.queues)) then
        return format('Job %s is due, but no live worker that serves kind %s serves queue %s.', job.id, job.kind, job.queue);
    end if;
    select count(*) into ahead from (
        select from rowcrew.jobs j
        where j.shard = 0 and j.queue = job.queue and j.state = 'available'
            and (j.priority, j.due_at, j.id) < (job.priority, job.due_at, job.id)
        limit 10000
    ) before;
    return format('Job %s is due since %s and waits its turn: %s jobs of queue %s come before it.', job.id, job.due_at,
        case when ahead = 10000 then '10000 or more' else ahead::text end, job.queue);
end
$$;
