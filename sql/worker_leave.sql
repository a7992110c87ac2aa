-- Takes a worker that stops in order from the crew; what it still holds, because it could not write its end in
-- time, is given back unharmed.
--
-- Params:  $1 id int8
-- Returns: given_back int8
-- Locks:   the worker's own row, then the jobs in order of id
-- Plan:    Index Scan using workers_pkey, Index Scan using jobs_pkey
with gone as (
    delete from rowcrew.workers w
    where w.id = $1
),
emptied as (
    delete from rowcrew.claims c
    where c.shard = 0 and c.worker_id = $1
    returning c.claim_id, c.job_ids
),
held as materialized (
    select mine.id
    from (
        select taken.id, e.claim_id
        from emptied e
        cross join lateral unnest(e.job_ids) as taken (id)
        order by taken.id
    ) as ending
    cross join lateral (
        select j.id
        from rowcrew.jobs j
        where j.shard = 0 and j.id = ending.id and j.claim_id = ending.claim_id and j.state = 'running'
        limit 1
        for update
    ) as mine
),
back as (
    update rowcrew.jobs j
    set state = 'available', attempts = greatest(j.attempts - 1, 0), claimed_by = null, claim_id = null
    where j.shard = 0 and j.id = any (array(select h.id from held h))
    returning j.id
)
select count(*) as given_back
from back
