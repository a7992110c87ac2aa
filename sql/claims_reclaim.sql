-- Gives back jobs claimed in the name of workers that are not in the crew: their claims were still on the way
-- when they left or were taken for lost. None of these jobs has begun.
--
-- claimers: one step in the index for each worker, however many claims it has.
-- places: claims are never updated, so that a locked one stays where it is.
--
-- Params:  none
-- Returns: given_back int8
-- Locks:   the claims in order of their key, then the jobs in order of id
-- Plan:    Index Scan using claims_pkey, Index Scan using jobs_pkey
with recursive claimers (id) as (
    (
        select c.worker_id
        from rowcrew.claims c
        where c.shard = 0
        order by c.worker_id
        limit 1
    )
    union all
    select (
        select c.worker_id
        from rowcrew.claims c
        where c.shard = 0 and c.worker_id > k.id
        order by c.worker_id
        limit 1
    )
    from claimers k
    where k.id is not null
),
gone as (
    select k.id
    from claimers k
    where k.id is not null and not exists (select from rowcrew.workers w where w.id = k.id)
    order by k.id
),
places as materialized (
    select mine.place
    from gone g
    cross join lateral (
        select c.ctid as place
        from rowcrew.claims c
        where c.shard = 0 and c.worker_id = g.id
        order by c.batch
        for update
    ) as mine
),
orphaned as (
    delete from rowcrew.claims c
    where c.ctid = any (array(select p.place from places p))
    returning c.claim_id, c.job_ids
),
held as materialized (
    select mine.id
    from (
        select taken.id, o.claim_id
        from orphaned o
        cross join lateral unnest(o.job_ids) as taken (id)
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
