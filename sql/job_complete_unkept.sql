-- As job_complete, for a job of which nothing is kept: it is deleted.
-- Fails if it does not run under its claim any more, so that a commit that was sent along is a rollback.
--
-- Params:  $1 id int8, $2 claim_id int8
-- Returns: held bool (true)
-- Locks:   the one row
-- Plan:    Index Scan using jobs_pkey
with removed as (
    delete from rowcrew.jobs j
    where j.shard = 0 and j.id = $1 and j.claim_id = $2 and j.state = 'running'
    returning j.id
)
-- A text that is no boolean is the shortest way to fail, and says why in the server's log.
select case when count(*) = 1 then true else (count(*) || ' jobs run under the claim')::boolean end as held
from removed
