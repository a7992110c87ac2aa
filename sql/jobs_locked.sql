-- Finds those of some running jobs whose rows somebody has locked.
--
-- Params:  $1 ids int8[], $2 claim_ids int8[] (the claims they run under, each once)
-- Returns: id int8
-- Locks:   the others, until it ends; never waits for one
-- Plan:    Index Scan using jobs_pkey
select running.id
from (
    select j.id
    from unnest($1::bigint[]) as ended (id)
    cross join lateral (
        select r.id
        from rowcrew.jobs r
        where r.shard = 0 and r.id = ended.id and r.claim_id = any ($2) and r.state = 'running'
        limit 1
    ) as j
) as running
left join lateral (
    select j.id
    from rowcrew.jobs j
    where j.shard = 0 and j.id = running.id and j.claim_id = any ($2) and j.state = 'running'
    limit 1
    for update skip locked
) as free on true
where free.id is null
