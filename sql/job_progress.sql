-- Notes how far running jobs are, if each still runs under the claim that the report came from. A job that somebody has
-- locked goes without: its next report comes soon.
--
-- Params:  $1 ids int8[] (ascending), $2 reports jsonb (an object, by id: {"claim": its claim id, "progress"})
-- Returns: nothing
-- Locks:   the jobs, passing over locked ones
-- Plan:    Index Scan using jobs_pkey
update rowcrew.jobs j
set progress = $2::jsonb -> j.id::text -> 'progress'
where j.shard = 0
    and j.id = any (array(
        select r.id
        from rowcrew.jobs r
        where r.shard = 0 and r.id = any ($1) and r.state = 'running'
        for update skip locked
    ))
    and j.claim_id = ($2::jsonb -> j.id::text ->> 'claim')::bigint
    and j.state = 'running'
