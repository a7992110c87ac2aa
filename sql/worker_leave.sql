-- Takes a worker that stops in order from the crew; what it still holds, because it could not write its end in
-- time, is given back unharmed. What somebody has locked stays in claims, for claims_reclaim.
--
-- Locks claims before jobs, unlike the writes of endings, and cannot get into a circle with them: it never waits for
-- a job.
--
-- Params:  $1 id int8
-- Returns: given_back int8
-- Locks:   the worker's own row, its claims in order of their key, then the jobs, passing over locked ones
-- Plan:    Index Scan using workers_pkey, Index Scan using jobs_pkey
with gone as (
    delete from rowcrew.workers w
    where w.id = $1
),
emptied as (
    delete from rowcrew.claims c
    where c.shard = 0 and c.worker_id = $1
    returning c.batch, c.claim_id, c.job_ids
),
held as materialized (
    select running.id, running.batch, running.claim_id, mine.id is null as locked
    from (
        select j.id, e.batch, e.claim_id
        from emptied e
        cross join lateral unnest(e.job_ids) as taken (id)
        cross join lateral (
            select r.id
            from rowcrew.jobs r
            where r.shard = 0 and r.id = taken.id and r.claim_id = e.claim_id and r.state = 'running'
            limit 1
        ) as j
        order by j.id
    ) as running
    left join lateral (
        select j.id
        from rowcrew.jobs j
        where j.shard = 0 and j.id = running.id and j.claim_id = running.claim_id and j.state = 'running'
        limit 1
        for update skip locked
    ) as mine on true
),
remains as (
    insert into rowcrew.claims (worker_id, batch, claim_id, job_ids)
    select $1, h.batch, h.claim_id, array_agg(h.id)
    from held h
    where h.locked
    group by h.batch, h.claim_id
),
back as (
    update rowcrew.jobs j
    set state = 'available', attempts = greatest(j.attempts - 1, 0), claimed_by = null, claim_id = null
    where j.shard = 0 and j.id = any (array(select h.id from held h where not h.locked))
    returning j.id
)
select count(*) as given_back
from back
