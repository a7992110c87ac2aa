-- What people look at: job_status, running, retrying, throughput, queue_stats, kind_stats, why.
-- Locks: creates only; touches nothing that exists.

create view rowcrew.job_status as
select
    j.id, j.kind, j.queue,
    case
        when j.state <> 'available' then j.state
        when j.due_at <= now() then 'available'
        when j.retry_at is not null then 'retrying'
        else 'scheduled'
    end as state,
    j.attempts, j.created_at, j.due_at, j.claimed_at, null::timestamptz as ended_at,
    j.last_error, null::jsonb as result, j.progress
from rowcrew.jobs j
where j.shard = 0
union all
select
    f.id, f.kind, f.queue, f.state, f.attempts, f.created_at, f.run_at, f.claimed_at, f.finished_at,
    f.last_error, f.result, null
from rowcrew.finished_jobs f
where f.shard = 0
union all
select
    d.id, d.kind, d.queue, 'dead', d.attempts, d.created_at, d.run_at, d.claimed_at, d.died_at,
    d.last_error, null, d.progress
from rowcrew.dead_jobs d
where d.shard = 0;
comment on view rowcrew.job_status is
    'One row for every job still kept, in the words scheduled, available, retrying, running, waiting, completed, cancelled, dead. Ask for an id: select * from rowcrew.job_status where id = 42.';

create view rowcrew.running as
select
    j.id, j.kind, j.queue, j.attempts, j.claimed_at, now() - j.claimed_at as held_for,
    w.name as worker, j.claimed_by as worker_id, j.progress, j.cancel_requested_at
from rowcrew.claims c
cross join lateral unnest(c.job_ids) as held (id)
cross join lateral (
    select r.id, r.kind, r.queue, r.attempts, r.claimed_at, r.claimed_by, r.progress, r.cancel_requested_at
    from rowcrew.jobs r
    where r.shard = 0 and r.id = held.id and r.claim_id = c.claim_id and r.state = 'running'
    limit 1
) j
left join rowcrew.workers w on w.id = j.claimed_by;
comment on view rowcrew.running is 'The jobs that workers hold now.';

create view rowcrew.retrying as
select j.id, j.kind, j.queue, j.attempts, j.retry_at, j.last_error
from rowcrew.jobs j
where j.shard = 0 and j.state = 'available' and j.retry_at > now();
comment on view rowcrew.retrying is 'Jobs that failed and wait for their next try.';

create view rowcrew.blocked as
select j.id, j.kind, j.queue, j.created_at, rowcrew_why.reason
from rowcrew.jobs j
cross join lateral (
    select case
        when j.state = 'waiting' then 'waits for other jobs'
        when j.due_at = 'infinity' then 'parked: run_at is infinity'
        when exists (select from rowcrew.queues q where q.name = j.queue and q.paused_until > now())
            then 'its queue is paused'
        when not exists (select from rowcrew.workers w where j.kind = any (w.kinds) and j.queue = any (w.queues))
            then 'no live worker serves its kind in its queue'
    end as reason
) rowcrew_why
where j.shard = 0 and j.state <> 'running' and rowcrew_why.reason is not null;
comment on view rowcrew.blocked is 'Jobs that nothing will run as things stand, and why. Reads all unfinished jobs.';

create function rowcrew.bucket_ms(bucket numeric) returns double precision
language sql immutable as $$
    select 0.1 * power(2, ($1 - 0.5) / 4.0)::double precision
$$;
comment on function rowcrew.bucket_ms(numeric) is 'The time in milliseconds that stands for all times in a bucket of job_stats; within 9% of each.';

create function rowcrew.latencies(since timestamptz)
returns table (
    queue text, kind text, measure text, times bigint, p50_ms double precision, p95_ms double precision, p99_ms double precision
)
language sql stable as $$
    with counted as (
        select s.queue, s.kind, m.measure, b.bucket, sum(b.times) as times
        from rowcrew.job_stats s
        cross join lateral (
            values ('wait', s.wait_buckets, s.wait_counts), ('run', s.run_buckets, s.run_counts)
        ) as m (measure, buckets, counts)
        cross join lateral unnest(m.buckets, m.counts) as b (bucket, times)
        where s.bucket_at >= $1
        group by grouping sets ((s.queue, s.kind, m.measure, b.bucket), (s.queue, m.measure, b.bucket), (s.kind, m.measure, b.bucket))
    ), ranked as (
        select
            c.queue, c.kind, c.measure, c.bucket, c.times,
            sum(c.times) over (partition by c.queue, c.kind, c.measure order by c.bucket) as upto,
            sum(c.times) over (partition by c.queue, c.kind, c.measure) as total
        from counted c
    )
    select
        r.queue, r.kind, r.measure, max(r.total)::bigint,
        rowcrew.bucket_ms(min(r.bucket) filter (where r.upto >= r.total * 0.50)),
        rowcrew.bucket_ms(min(r.bucket) filter (where r.upto >= r.total * 0.95)),
        rowcrew.bucket_ms(min(r.bucket) filter (where r.upto >= r.total * 0.99))
    from ranked r
    group by r.queue, r.kind, r.measure
$$;
comment on function rowcrew.latencies(timestamptz) is
    'Percentiles of wait and run times since a moment: per queue and kind; per queue (kind null); per kind (queue null).';

create function rowcrew.depths()
returns table (queue text, available bigint, scheduled bigint, retrying bigint, running bigint, waiting bigint, capped boolean)
language sql stable as $$
    with recursive named (queue) as (
        (select j.queue from rowcrew.jobs j where j.shard = 0 order by j.queue limit 1)
        union all
        select (select j.queue from rowcrew.jobs j where j.shard = 0 and j.queue > n.queue order by j.queue limit 1)
        from named n
        where n.queue is not null
    ), looked as (
        select n.queue, head.state, head.due_at, head.retry_at
        from named n
        cross join lateral (
            select j.state, j.due_at, j.retry_at
            from rowcrew.jobs j
            where j.shard = 0 and j.queue = n.queue
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
comment on function rowcrew.depths() is
    'Unfinished jobs per queue and state. Looks at 20,000 of each queue at most (capped says so), so that a look stays cheap.';

create view rowcrew.queue_stats as
with rates as (
    select
        s.queue,
        coalesce(sum(s.completed) filter (where s.bucket_at >= now() - interval '1 minute'), 0) as done_1m,
        coalesce(sum(s.completed) filter (where s.bucket_at >= now() - interval '5 minutes'), 0) as done_5m,
        sum(s.completed) as done_1h, sum(s.failed) as failed_1h, sum(s.retried) as retried_1h, sum(s.dead) as dead_1h
    from rowcrew.job_stats s
    where s.bucket_at >= now() - interval '1 hour'
    group by s.queue
), latency as (
    select
        l.queue,
        max(l.p50_ms) filter (where l.measure = 'wait') as wait_p50, max(l.p95_ms) filter (where l.measure = 'wait') as wait_p95,
        max(l.p99_ms) filter (where l.measure = 'wait') as wait_p99, max(l.p50_ms) filter (where l.measure = 'run') as run_p50,
        max(l.p95_ms) filter (where l.measure = 'run') as run_p95, max(l.p99_ms) filter (where l.measure = 'run') as run_p99
    from rowcrew.latencies(now() - interval '1 hour') l
    where l.queue is not null and l.kind is null
    group by l.queue
), counted as (
    select d.queue, d.available, d.scheduled, d.retrying, d.running, d.waiting, d.capped from rowcrew.depths() d
), sampled as (
    select distinct on (d.queue) d.queue, d.depth
    from rowcrew.queue_depths d
    where d.sampled_at >= now() - interval '10 minutes'
    order by d.queue, d.sampled_at desc
)
select
    queue,
    coalesce(c.available, 0) as available, coalesce(c.scheduled, 0) as scheduled, coalesce(c.retrying, 0) as retrying,
    coalesce(c.running, 0) as running, coalesce(c.waiting, 0) as waiting,
    case when c.capped then greatest(s.depth, 20000)
        else coalesce(c.available + c.scheduled + c.retrying + c.running + c.waiting, 0) end as depth,
    coalesce(c.capped, false) as capped,
    q.paused_until,
    round(coalesce(r.done_1m, 0) / 60.0, 2) as per_second_1m,
    round(coalesce(r.done_5m, 0) / 300.0, 2) as per_second_5m,
    round(coalesce(r.done_1h, 0) / 3600.0, 2) as per_second_1h,
    coalesce(r.done_1h, 0) as completed_1h, coalesce(r.failed_1h, 0) as failed_1h,
    coalesce(r.retried_1h, 0) as retried_1h, coalesce(r.dead_1h, 0) as dead_1h,
    round(l.wait_p50::numeric, 1) as wait_p50_ms, round(l.wait_p95::numeric, 1) as wait_p95_ms, round(l.wait_p99::numeric, 1) as wait_p99_ms,
    round(l.run_p50::numeric, 1) as run_p50_ms, round(l.run_p95::numeric, 1) as run_p95_ms, round(l.run_p99::numeric, 1) as run_p99_ms
from counted c
full join rates r using (queue)
full join (select q.name as queue, q.paused_until from rowcrew.queues q) q using (queue)
left join latency l using (queue)
left join sampled s using (queue);
comment on view rowcrew.queue_stats is
    'Each queue: its unfinished jobs by state (of the first 20,000; depth is the whole), completions per second over 1 min, 5 min and 1 h, and percentiles of the last hour.';

create view rowcrew.kind_stats as
with rates as (
    select
        s.kind,
        coalesce(sum(s.completed) filter (where s.bucket_at >= now() - interval '1 minute'), 0) as done_1m,
        coalesce(sum(s.completed) filter (where s.bucket_at >= now() - interval '5 minutes'), 0) as done_5m,
        sum(s.completed) as done_1h, sum(s.failed) as failed_1h, sum(s.retried) as retried_1h, sum(s.dead) as dead_1h
    from rowcrew.job_stats s
    where s.bucket_at >= now() - interval '1 hour'
    group by s.kind
), latency as (
    select
        l.kind,
        max(l.p50_ms) filter (where l.measure = 'wait') as wait_p50, max(l.p95_ms) filter (where l.measure = 'wait') as wait_p95,
        max(l.p99_ms) filter (where l.measure = 'wait') as wait_p99, max(l.p50_ms) filter (where l.measure = 'run') as run_p50,
        max(l.p95_ms) filter (where l.measure = 'run') as run_p95, max(l.p99_ms) filter (where l.measure = 'run') as run_p99
    from rowcrew.latencies(now() - interval '1 hour') l
    where l.kind is not null and l.queue is null
    group by l.kind
), served as (
    select k.kind, count(*) as workers
    from rowcrew.workers w cross join lateral unnest(w.kinds) as k (kind)
    group by k.kind
)
select
    kind,
    coalesce(s.workers, 0) as workers,
    round(coalesce(r.done_1m, 0) / 60.0, 2) as per_second_1m,
    round(coalesce(r.done_5m, 0) / 300.0, 2) as per_second_5m,
    round(coalesce(r.done_1h, 0) / 3600.0, 2) as per_second_1h,
    coalesce(r.done_1h, 0) as completed_1h, coalesce(r.failed_1h, 0) as failed_1h,
    coalesce(r.retried_1h, 0) as retried_1h, coalesce(r.dead_1h, 0) as dead_1h,
    round(l.wait_p50::numeric, 1) as wait_p50_ms, round(l.wait_p95::numeric, 1) as wait_p95_ms, round(l.wait_p99::numeric, 1) as wait_p99_ms,
    round(l.run_p50::numeric, 1) as run_p50_ms, round(l.run_p95::numeric, 1) as run_p95_ms, round(l.run_p99::numeric, 1) as run_p99_ms
from rates r
full join served s using (kind)
left join latency l using (kind);
comment on view rowcrew.kind_stats is 'Each kind that was run in the last hour or has a live worker: how many workers serve it, rates, percentiles.';

create view rowcrew.throughput as
with ended as (
    select
        date_trunc('minute', s.bucket_at) as minute, s.queue,
        sum(s.completed) as completed, sum(s.failed) as failed, sum(s.retried) as retried, sum(s.dead) as dead,
        sum(s.cancelled) as cancelled
    from rowcrew.job_stats s
    group by 1, 2
), depths as (
    select
        d.queue, date_trunc('minute', d.sampled_at) as minute, d.depth,
        d.depth - lag(d.depth) over (partition by d.queue order by d.sampled_at) as grown
    from rowcrew.queue_depths d
), spread as (
    select
        date_trunc('minute', s.bucket_at) as minute, s.queue, m.measure, b.bucket, sum(b.times) as times
    from rowcrew.job_stats s
    cross join lateral (
        values ('wait', s.wait_buckets, s.wait_counts), ('run', s.run_buckets, s.run_counts)
    ) as m (measure, buckets, counts)
    cross join lateral unnest(m.buckets, m.counts) as b (bucket, times)
    group by 1, 2, 3, 4
), ranked as (
    select
        s.minute, s.queue, s.measure, s.bucket,
        sum(s.times) over (partition by s.minute, s.queue, s.measure order by s.bucket) as upto,
        sum(s.times) over (partition by s.minute, s.queue, s.measure) as total
    from spread s
), latency as (
    select
        r.minute, r.queue,
        min(r.bucket) filter (where r.measure = 'wait' and r.upto >= r.total * 0.50) as wait_50,
        min(r.bucket) filter (where r.measure = 'wait' and r.upto >= r.total * 0.95) as wait_95,
        min(r.bucket) filter (where r.measure = 'wait' and r.upto >= r.total * 0.99) as wait_99,
        min(r.bucket) filter (where r.measure = 'run' and r.upto >= r.total * 0.50) as run_50,
        min(r.bucket) filter (where r.measure = 'run' and r.upto >= r.total * 0.95) as run_95,
        min(r.bucket) filter (where r.measure = 'run' and r.upto >= r.total * 0.99) as run_99
    from ranked r
    group by r.minute, r.queue
)
select
    minute, queue,
    greatest(coalesce(e.completed + e.dead + e.cancelled, 0) + coalesce(d.grown, 0), 0) as enqueued,
    coalesce(e.completed, 0) as completed, coalesce(e.failed, 0) as failed, coalesce(e.retried, 0) as retried,
    coalesce(e.dead, 0) as dead, coalesce(e.cancelled, 0) as cancelled,
    round(rowcrew.bucket_ms(l.wait_50)::numeric, 1) as wait_p50_ms,
    round(rowcrew.bucket_ms(l.wait_95)::numeric, 1) as wait_p95_ms,
    round(rowcrew.bucket_ms(l.wait_99)::numeric, 1) as wait_p99_ms,
    round(rowcrew.bucket_ms(l.run_50)::numeric, 1) as run_p50_ms,
    round(rowcrew.bucket_ms(l.run_95)::numeric, 1) as run_p95_ms,
    round(rowcrew.bucket_ms(l.run_99)::numeric, 1) as run_p99_ms
from ended e
-- Full: a queue that only grew had its jobs enqueued too.
full join depths d using (minute, queue)
left join latency l using (minute, queue)
where e.minute is not null or d.grown > 0;
comment on view rowcrew.throughput is
    'Each minute and queue: jobs enqueued (what ended plus what the queue grew by, from the counts once a minute), completed, failed tries, retried, dead, cancelled, and percentiles.';

create function rowcrew.why(id bigint) returns text
language plpgsql stable as $$
declare
    job record;
    paused timestamptz;
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
    elsif job.due_at > now() and job.retry_at is not null then
        return format('Job %s failed and is tried again at %s: %s', job.id, job.retry_at, job.last_error);
    elsif job.due_at > now() then
        return format('Job %s is scheduled for %s.', job.id, job.run_at);
    end if;
    select q.paused_until into paused from rowcrew.queues q where q.name = job.queue and q.paused_until > now();
    if found then
        return format('Job %s is due, but its queue %s is paused %s.', job.id, job.queue,
            case when paused = 'infinity' then 'until somebody resumes it' else 'until ' || paused end);
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
comment on function rowcrew.why(bigint) is 'One sentence: why this job is not running, or what became of it.';
