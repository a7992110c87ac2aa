-- Reads what the jobs of the last hour were like, for proposals: rates, run times, and a sample of payload sizes.
--
-- Params:  none
-- Returns: load text (a JSON object)
-- Locks:   none
-- Plan:    Index Scan using jobs_pkey, Index Scan using job_stats_pkey
select json_build_object(
    'ended_1h', coalesce(past.ended, 0),
    'busiest_per_second', coalesce(past.busiest, 0),
    'run_ms', past.run_ms,
    'payload_bytes', sampled.bytes,
    'sampled', sampled.jobs,
    'workers', (select count(*) from rowcrew.workers),
    'concurrency', (select coalesce(sum(w.concurrency), 0) from rowcrew.workers w),
    'busy', (select coalesce(sum(w.running), 0) from rowcrew.workers w)
)::text as load
from (
    select
        sum(bucket.ended) as ended, max(bucket.ended) / 60.0 as busiest,
        sum(bucket.run_ms) / nullif(sum(bucket.ended), 0) as run_ms
    from (
        select sum(s.completed + s.failed) as ended, sum(s.run_ms) as run_ms
        from rowcrew.job_stats s
        where s.bucket_at >= now() - interval '1 hour'
        group by date_trunc('minute', s.bucket_at)
    ) bucket
) past
cross join (
    select count(*) as jobs, avg(look.bytes)::float8 as bytes
    from (
        select pg_column_size(j.payload) as bytes
        from rowcrew.jobs j
        where j.shard = 0
        order by j.id
        limit (select 1000)
    ) look
) sampled
