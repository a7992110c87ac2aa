-- Leaves no choice of an index: one for the order of claims, which nothing finds an id by, and one for ids, which nothing
-- else is found by. Statistics of a moment without any job had made either look as good as the other: endings read
-- the whole of one, which a long transaction kept full of dead rows.
-- Locks: jobs against everybody while both indexes are built, about 2 s for a million jobs.

-- The id leads: with the shard first, "all ids of shard 0" is a way to look for a few of them.
create unique index jobs_by_id on rowcrew.jobs (id, shard);
alter table rowcrew.jobs
    drop constraint jobs_pkey,
    add constraint jobs_pkey primary key using index jobs_by_id;
comment on column rowcrew.jobs.shard is 'Always 0 on plain Postgres; in the primary key so that the tables can be distributed.';

-- True of every job, but only who says it too may take this index.
drop index rowcrew.jobs_ready;
create index jobs_ready on rowcrew.jobs (shard, queue, priority, due_at, id) where priority >= 0;

create or replace function rowcrew.depths()
returns table (queue text, available bigint, scheduled bigint, retrying bigint, running bigint, waiting bigint, capped boolean)
language sql stable as $$
    with recursive named (queue) as (
        (select j.queue from rowcrew.jobs j where j.shard = 0 and j.priority >= 0 order by j.queue limit 1)
        union all
        select (
            select j.queue from rowcrew.jobs j
            where j.shard = 0 and j.queue > n.queue and j.priority >= 0
            order by j.queue limit 1
        )
        from named n
        where n.queue is not null
    ), looked as (
        select n.queue, head.state, head.due_at, head.retry_at
        from named n
        cross join lateral (
            select j.state, j.due_at, j.retry_at
            from rowcrew.jobs j
            where j.shard = 0 and j.queue = n.queue and j.priority >= 0
            -- Not knowing the number, the planner goes by jobs_ready: a small queue costs its own rows only.
            order by j.priority, j.due_at, j.id
            limit (select 20000)
        ) head
        where n.queue is not null
    )
    select
        l.queue,
        count(*) filter (where l.state = 'available' and l.due_at <= now()),
        count(*) filter (where l.state = 'available' and l.due_at > now() and l.retry_at is null),
        count(*) filter (where l.state = 'available' and l.due_at > now() and l.retry_at is not null),
        count(*) filter (where l.state = 'running'),
        count(*) filter (where l.state = 'waiting'),
        count(*) >= 20000
    from looked l
    group by l.queue
$$;

create or replace function rowcrew.purge(queue text, at_most integer default 100000) returns bigint
language plpgsql as $$
declare
    purged bigint;
begin
    with picked as (
        select j.id from rowcrew.jobs j
        where j.shard = 0 and j.queue = purge.queue and j.priority >= 0 and j.state <> 'running'
        order by j.id
        limit purge.at_most
        for update skip locked
    ), gone as (
        delete from rowcrew.jobs j where j.shard = 0 and j.id = any (array(select p.id from picked p))
        returning j.kind
    ), counted as (
        select g.kind, count(*) as jobs from gone g group by g.kind
    )
    select sum(c.jobs) into purged
    from counted c, lateral rowcrew.count_ended(purge.queue, c.kind, c.jobs, 0);
    perform rowcrew.record_event('purge', 'queue ' || purge.queue, jsonb_build_object('jobs', coalesce(purged, 0)));
    return coalesce(purged, 0);
end
$$;

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
    elsif job.due_at > now() and job.retry_at is not null and job.attempts = 0 then
        return format('Job %s was put off until %s%s', job.id, job.retry_at, coalesce(': ' || job.last_error, '.'));
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
        where j.shard = 0 and j.queue = job.queue and j.priority >= 0 and j.state = 'available'
            and (j.priority, j.due_at, j.id) < (job.priority, job.due_at, job.id)
        limit 10000
    ) before;
    return format('Job %s is due since %s and waits its turn: %s jobs of queue %s come before it.', job.id, job.due_at,
        case when ahead = 10000 then '10000 or more' else ahead::text end, job.queue);
end
$$;
