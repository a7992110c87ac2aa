-- Takes a worker that stops in order from the crew.
--
-- Params:  $1 id int8
-- Returns: id int8
-- Locks:   the worker's own row
-- Plan:    Index Scan using workers_pkey
with emptied as (
    delete from rowcrew.claims c
    where c.shard = 0 and c.worker_id = $1
)
delete from rowcrew.workers w
where w.id = $1
returning w.id
