-- Sums statistics older than two hours up to one row a minute, queue and kind.
--
-- Params:  none
-- Returns: rows int8
-- Locks:   the rows it sums up
-- Plan:    none
with old as (
    delete from rowcrew.job_stats s
    where s.bucket_at < date_trunc('minute', now() - interval '2 hours')
        and (s.worker_id <> 0 or s.bucket_at <> date_trunc('minute', s.bucket_at))
    returning
        date_trunc('minute', s.bucket_at) as minute, s.queue, s.kind, s.completed, s.failed, s.retried, s.dead,
        s.cancelled, s.wait_ms, s.run_ms, s.wait_buckets, s.wait_counts, s.run_buckets, s.run_counts
),
counted as (
    select o.minute, o.queue, o.kind, m.measure, b.bucket, sum(b.times) as times
    from old o
    cross join lateral (
        values ('wait', o.wait_buckets, o.wait_counts), ('run', o.run_buckets, o.run_counts)
    ) as m (measure, buckets, counts)
    cross join lateral unnest(m.buckets, m.counts) as b (bucket, times)
    group by o.minute, o.queue, o.kind, m.measure, b.bucket
),
spread as (
    select
        c.minute, c.queue, c.kind,
        array_agg(c.bucket order by c.bucket) filter (where c.measure = 'wait') as wait_buckets,
        array_agg(c.times::bigint order by c.bucket) filter (where c.measure = 'wait') as wait_counts,
        array_agg(c.bucket order by c.bucket) filter (where c.measure = 'run') as run_buckets,
        array_agg(c.times::bigint order by c.bucket) filter (where c.measure = 'run') as run_counts
    from counted c
    group by c.minute, c.queue, c.kind
),
folded as (
    insert into rowcrew.job_stats as s
        (bucket_at, queue, kind, worker_id, completed, failed, retried, dead, cancelled, wait_ms, run_ms,
         wait_buckets, wait_counts, run_buckets, run_counts)
    select
        o.minute, o.queue, o.kind, 0, sum(o.completed), sum(o.failed), sum(o.retried), sum(o.dead), sum(o.cancelled),
        sum(o.wait_ms), sum(o.run_ms),
        coalesce(max(p.wait_buckets), '{}'), coalesce(max(p.wait_counts), '{}'),
        coalesce(max(p.run_buckets), '{}'), coalesce(max(p.run_counts), '{}')
    from old o
    left join spread p on p.minute = o.minute and p.queue = o.queue and p.kind = o.kind
    group by o.minute, o.queue, o.kind
    order by o.minute, o.queue, o.kind
    on conflict on constraint job_stats_pkey do update
    set
        completed = s.completed + excluded.completed, failed = s.failed + excluded.failed,
        retried = s.retried + excluded.retried, dead = s.dead + excluded.dead,
        cancelled = s.cancelled + excluded.cancelled, wait_ms = s.wait_ms + excluded.wait_ms,
        run_ms = s.run_ms + excluded.run_ms,
        -- A bucket may stand twice in the arrays; readers sum.
        wait_buckets = s.wait_buckets || excluded.wait_buckets, wait_counts = s.wait_counts || excluded.wait_counts,
        run_buckets = s.run_buckets || excluded.run_buckets, run_counts = s.run_counts || excluded.run_counts
    returning 1
)
select count(*) as rows
from folded
