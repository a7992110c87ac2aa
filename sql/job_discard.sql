-- Ends jobs of which nothing is kept: each is deleted, if it still runs under its claim.
--
-- Params:  $1 ids int8[] (ascending), $2 claim_ids int8[] (the claims they run under, each once),
--          $3 worker_id int8, $4 batches int8[] (claims of the worker of which nothing is left)
-- Returns: nothing (the number of jobs written is the statement's own)
-- Locks:   the jobs, in order of id
-- Plan:    Index Scan using jobs_pkey
with emptied as (
    delete from rowcrew.claims c
    where c.shard = 0 and c.worker_id = $3 and c.batch = any ($4)
        -- Says nothing new. Whatever plan is made, it does not begin with all that this worker ever claimed.
        and c.batch >= (select min(b) from unnest($4) b)
)
delete from rowcrew.jobs j
where j.shard = 0 and j.id = any ($1) and j.claim_id = any ($2) and j.state = 'running'
