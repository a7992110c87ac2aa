-- Says that a worker now runs this one job and nothing else, so that a crash can be blamed on it; null: no more.
--
-- Params:  $1 worker_id int8, $2 job_id int8
-- Returns: id int8
-- Locks:   the worker's own row
-- Plan:    Index Scan using workers_pkey
update rowcrew.workers w
set alone_job_id = $2
where w.id = $1
returning w.id
