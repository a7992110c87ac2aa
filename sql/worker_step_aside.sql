-- Takes a worker that holds no job from the crew for a while; answers nothing if it holds one.
--
-- Params:  $1 id int8
-- Returns: id int8
-- Locks:   the worker's own row
-- Plan:    Index Scan using workers_pkey, Index Scan using claims_pkey
delete from rowcrew.workers w
where w.id = $1
    and not exists (
        select from rowcrew.claims c
        where c.shard = 0 and c.worker_id = $1 and c.job_ids <> '{}'
    )
returning w.id
