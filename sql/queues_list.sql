-- Lists the queues that have jobs, settings or a recent past.
--
-- Params:  none
-- Returns: queue text (a JSON object)
-- Locks:   none
-- Plan:    Index Scan using jobs_ready, Index Scan using job_stats_pkey
select row_to_json(listed)::text as queue
from (
    select
        s.queue, s.available, s.scheduled, s.retrying, s.running, s.waiting, s.depth, s.capped,
        case when s.paused_until > now() then s.paused_until end as paused_until,
        extract(epoch from q.retention)::bigint as retention_seconds,
        s.per_second_1m, s.completed_1h, s.failed_1h, s.dead_1h,
        (select count(*) from rowcrew.workers w where s.queue = any (w.queues)) as workers
    from rowcrew.queue_stats s
    left join rowcrew.queues q on q.name = s.queue
    order by s.queue
) listed
