-- Answers the payload of a running job, which was too large to come with its claim.
--
-- Params:  $1 id int8, $2 claim_id int8
-- Returns: payload jsonb
-- Locks:   none
-- Plan:    Index Scan using jobs_pkey
select j.payload
from rowcrew.jobs j
where j.shard = 0 and j.id = $1 and j.claim_id = $2 and j.state = 'running'
