-- Finds a job if it is still held by a claim; waits for whoever is about to end it.
--
-- Params:  $1 id int8, $2 claim_id int8
-- Returns: id int8
-- Locks:   the one row
-- Plan:    Index Scan using jobs_pkey
select j.id
from rowcrew.jobs j
where j.shard = 0 and j.id = $1 and j.claim_id = $2 and j.state = 'running'
for update
