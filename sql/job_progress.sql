-- Notes how far running jobs are, if each still runs under the claim that the report came from.
--
-- Params:  $1 ids int8[] (ascending), $2 reports jsonb (an object, by id: {"claim": its claim id, "progress"})
-- Returns: nothing
-- Locks:   the jobs, in order of id
-- Plan:    Index Scan using jobs_pkey
update rowcrew.jobs j
set progress = $2::jsonb -> j.id::text -> 'progress'
where j.shard = 0
    and j.id = any ($1)
    and j.claim_id = ($2::jsonb -> j.id::text ->> 'claim')::bigint
    and j.state = 'running'
