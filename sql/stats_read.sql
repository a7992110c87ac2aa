-- Reads the figures of the moment in one document.
--
-- unserved: kinds that no live worker has a handler for, among the 20,000 unfinished jobs of the smallest ids.
--
-- limit (select ...): not knowing the number, the planner goes by the index and stops early, whatever it
-- takes the table for.
--
-- Params:  none
-- Returns: stats text (a JSON object)
-- Locks:   none
-- Plan:    Index Scan using jobs_pkey, Index Scan using jobs_ready, Index Only Scan using dead_jobs_pkey,
--          Index Scan using job_stats_pkey
select json_build_object(
    'at', now(),
    'workers', (select count(*) from rowcrew.workers),
    'dead', least(dead.jobs, 100000),
    'dead_capped', dead.jobs > 100000,
    'unserved', coalesce((
        select json_agg(json_build_object('kind', unserved.kind, 'jobs', unserved.jobs) order by unserved.kind)
        from (
            select look.kind, count(*) as jobs
            from (
                select j.kind, j.state, j.due_at
                from rowcrew.jobs j
                where j.shard = 0
                order by j.id
                limit (select 20000)
            ) look
            where look.state = 'available' and look.due_at <= now()
                and not exists (select from rowcrew.workers w where look.kind = any (w.kinds))
            group by look.kind
        ) unserved
    ), '[]'),
    'queues', coalesce((select json_agg(q order by q.queue) from rowcrew.queue_stats q), '[]'),
    'kinds', coalesce((select json_agg(k order by k.kind) from rowcrew.kind_stats k), '[]')
)::text as stats
from (
    select count(*) as jobs
    from (
        select d.id
        from rowcrew.dead_jobs d
        where d.shard = 0
        order by d.id
        limit (select 100001)
    ) counted
) dead
