-- Where jobs go: finished_jobs (completed or cancelled, one partition a day) and dead_jobs (the dead letters).
-- Locks: creates only; touches nothing that exists.

create table rowcrew.finished_jobs (
    shard smallint not null default 0,
    id bigint not null,
    kind text not null,
    payload jsonb not null,
    queue text not null,
    priority smallint not null,
    run_at timestamptz not null,
    max_attempts integer,
    unique_key text,
    group_key text,
    tags text[],
    meta jsonb,
    state text not null,
    attempts integer not null,
    crashes integer not null,
    claimed_by bigint,
    claimed_at timestamptz,
    last_error text,
    errors jsonb,
    created_at timestamptz not null,
    finished_at timestamptz not null default now(),
    result jsonb,
    constraint finished_jobs_state_known check (state in ('completed', 'cancelled'))
) partition by range (finished_at);

create index finished_jobs_id on rowcrew.finished_jobs (shard, id);
create table rowcrew.finished_jobs_other partition of rowcrew.finished_jobs default;

comment on table rowcrew.finished_jobs is 'Completed and cancelled jobs, one partition a UTC day; whole days are dropped when their time is over.';
comment on table rowcrew.finished_jobs_other is 'Takes rows of days that have no partition yet, until they get one; normally empty.';
comment on column rowcrew.finished_jobs.shard is 'As in jobs.';
comment on column rowcrew.finished_jobs.id is 'As in jobs.';
comment on column rowcrew.finished_jobs.kind is 'As in jobs.';
comment on column rowcrew.finished_jobs.payload is 'As in jobs.';
comment on column rowcrew.finished_jobs.queue is 'As in jobs.';
comment on column rowcrew.finished_jobs.priority is 'As in jobs.';
comment on column rowcrew.finished_jobs.run_at is 'As in jobs.';
comment on column rowcrew.finished_jobs.max_attempts is 'As in jobs.';
comment on column rowcrew.finished_jobs.unique_key is 'As in jobs; free again for a new job.';
comment on column rowcrew.finished_jobs.group_key is 'As in jobs.';
comment on column rowcrew.finished_jobs.tags is 'As in jobs.';
comment on column rowcrew.finished_jobs.meta is 'As in jobs.';
comment on column rowcrew.finished_jobs.state is 'completed or cancelled.';
comment on column rowcrew.finished_jobs.attempts is 'Tries it took.';
comment on column rowcrew.finished_jobs.crashes is 'Times its worker was lost while it ran.';
comment on column rowcrew.finished_jobs.claimed_by is 'The worker that ran it last.';
comment on column rowcrew.finished_jobs.claimed_at is 'When its last try was claimed.';
comment on column rowcrew.finished_jobs.last_error is 'Why the last failed try failed.';
comment on column rowcrew.finished_jobs.errors is 'As in jobs.';
comment on column rowcrew.finished_jobs.created_at is 'When it was inserted.';
comment on column rowcrew.finished_jobs.finished_at is 'When it ended.';
comment on column rowcrew.finished_jobs.result is 'What the handler answered.';

create table rowcrew.dead_jobs (
    shard smallint not null default 0,
    id bigint not null,
    kind text not null,
    payload jsonb not null,
    queue text not null,
    priority smallint not null,
    run_at timestamptz not null,
    max_attempts integer,
    backoff jsonb,
    timeout interval,
    expires_at timestamptz,
    unique_key text,
    group_key text,
    tags text[],
    meta jsonb,
    attempts integer not null,
    crashes integer not null,
    retry_at timestamptz,
    claimed_by bigint,
    claim_id bigint,
    claimed_at timestamptz,
    progress jsonb,
    last_error text,
    errors jsonb,
    created_at timestamptz not null,
    reason text not null,
    died_at timestamptz not null default now(),
    constraint dead_jobs_pkey primary key (shard, id)
);
create index dead_jobs_died on rowcrew.dead_jobs (shard, died_at);

-- Statistics from the first day, as for jobs.
insert into rowcrew.dead_jobs (id, kind, payload, queue, priority, run_at, attempts, crashes, created_at, reason, died_at)
select n, 'kind ' || n % 10, '{}', 'default', 5, now(), 5, 0, now(), 'exhausted', now() - n * interval '1 minute'
from generate_series(1, 1000) as n;
analyze rowcrew.dead_jobs;
truncate rowcrew.dead_jobs;

comment on table rowcrew.dead_jobs is 'The dead letters: jobs that failed for good. rowcrew.revive(id) puts one back.';
comment on column rowcrew.dead_jobs.shard is 'As in jobs.';
comment on column rowcrew.dead_jobs.id is 'As in jobs.';
comment on column rowcrew.dead_jobs.kind is 'As in jobs.';
comment on column rowcrew.dead_jobs.payload is 'As in jobs.';
comment on column rowcrew.dead_jobs.queue is 'As in jobs.';
comment on column rowcrew.dead_jobs.priority is 'As in jobs.';
comment on column rowcrew.dead_jobs.run_at is 'As in jobs.';
comment on column rowcrew.dead_jobs.max_attempts is 'As in jobs.';
comment on column rowcrew.dead_jobs.backoff is 'As in jobs.';
comment on column rowcrew.dead_jobs.timeout is 'As in jobs.';
comment on column rowcrew.dead_jobs.expires_at is 'As in jobs.';
comment on column rowcrew.dead_jobs.unique_key is 'As in jobs; free again for a new job.';
comment on column rowcrew.dead_jobs.group_key is 'As in jobs.';
comment on column rowcrew.dead_jobs.tags is 'As in jobs.';
comment on column rowcrew.dead_jobs.meta is 'As in jobs.';
comment on column rowcrew.dead_jobs.attempts is 'Tries it took.';
comment on column rowcrew.dead_jobs.crashes is 'Times its worker was lost while it ran.';
comment on column rowcrew.dead_jobs.retry_at is 'As in jobs.';
comment on column rowcrew.dead_jobs.claimed_by is 'The worker that ran it last.';
comment on column rowcrew.dead_jobs.claim_id is 'The claim it ran under last.';
comment on column rowcrew.dead_jobs.claimed_at is 'When its last try was claimed.';
comment on column rowcrew.dead_jobs.progress is 'What its handler last reported.';
comment on column rowcrew.dead_jobs.last_error is 'Why the last try failed.';
comment on column rowcrew.dead_jobs.errors is 'As in jobs: the whole history.';
comment on column rowcrew.dead_jobs.created_at is 'When it was inserted.';
comment on column rowcrew.dead_jobs.reason is 'exhausted (no tries left), permanent (the handler said so), expired, crashed (took its worker down), buried (by hand), ...';
comment on column rowcrew.dead_jobs.died_at is 'When it came here.';

create function rowcrew.make_partitions(days_ahead integer) returns integer
language plpgsql as $$
declare
    today date := (now() at time zone 'UTC')::date;
    day date;
    part text;
    made integer := 0;
begin
    for day in select today + n from generate_series(0, days_ahead) as n loop
        part := 'finished_jobs_' || to_char(day, 'YYYYMMDD');
        continue when to_regclass(format('%I.%I', 'rowcrew', part)) is not null;
        -- Made apart and attached: attaching does not stop those who write to the other days.
        execute format(
            'create table %1$I.%2$I (like %1$I.finished_jobs including defaults including constraints)',
            'rowcrew', part
        );
        execute format(
            'comment on table %I.%I is %L', 'rowcrew', part, 'Jobs that finished on ' || day || ' (UTC).'
        );
        -- What ended that day before it had a partition is in the default one, and would refuse this one.
        execute format('lock table %I.finished_jobs_other in access exclusive mode', 'rowcrew');
        execute format(
            'with moved as (
                delete from %1$I.finished_jobs_other where finished_at >= %3$L and finished_at < %4$L returning *
            ) insert into %1$I.%2$I select * from moved',
            'rowcrew', part, day || ' 00:00:00+00', (day + 1) || ' 00:00:00+00'
        );
        execute format(
            'alter table %1$I.finished_jobs attach partition %1$I.%2$I for values from (%3$L) to (%4$L)',
            'rowcrew', part, day || ' 00:00:00+00', (day + 1) || ' 00:00:00+00'
        );
        made := made + 1;
    end loop;
    return made;
end
$$;
comment on function rowcrew.make_partitions(integer) is 'Makes the missing partitions of finished_jobs for today and the days ahead; answers how many.';

create function rowcrew.drop_partitions(keep_days integer) returns integer
language plpgsql set lock_timeout = '500ms' as $$
declare
    oldest date := (now() at time zone 'UTC')::date - keep_days;
    part text;
    dropped integer := 0;
begin
    delete from rowcrew.finished_jobs_other o where o.finished_at < oldest::timestamp at time zone 'UTC';
    for part in
        select c.relname
        from pg_catalog.pg_inherits i
        join pg_catalog.pg_class c on c.oid = i.inhrelid
        where i.inhparent = 'rowcrew.finished_jobs'::regclass
            and c.relname ~ '^finished_jobs_[0-9]{8}$'
            and to_date(right(c.relname, 8), 'YYYYMMDD') < oldest
        order by c.relname
    loop
        begin
            execute format('drop table %I.%I', 'rowcrew', part);
            dropped := dropped + 1;
        exception when lock_not_available then
            -- Somebody reads the table, and all who finish jobs would wait behind us: another time.
            exit;
        end;
    end loop;
    return dropped;
end
$$;
comment on function rowcrew.drop_partitions(integer) is 'Drops the partitions of finished_jobs that are older than so many whole days; answers how many.';

select rowcrew.make_partitions(7);
