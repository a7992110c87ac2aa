-- Settles a claim whose answer was lost: gives back what it took, or keeps it from happening later.
--
-- If the claim has not committed, an empty row takes its number, and should it still arrive it fails on
-- the primary key. If it is about to commit, this waits for it and answers no row: ask again.
--
-- Params:  $1 worker_id int8, $2 batch int8
-- Returns: given_back int8, locked int8 (jobs that somebody has locked: they stay recorded, ask again)
-- Locks:   the claim, then its jobs, passing over locked ones (so that it is in no circle with endings, which lock
--          jobs before claims)
-- Plan:    Index Scan using claims_pkey, Index Scan using jobs_pkey
with lost as (
    delete from rowcrew.claims c
    where c.shard = 0 and c.worker_id = $1 and c.batch = $2
    returning c.batch, c.claim_id, c.job_ids
),
blocked as (
    insert into rowcrew.claims (worker_id, batch, claim_id, job_ids)
    select $1, $2, 0, '{}'
    where not exists (select from lost)
    on conflict do nothing
    returning batch
),
held as materialized (
    select running.id, running.batch, running.claim_id, mine.id is null as locked
    from (
        select j.id, l.batch, l.claim_id
        from lost l
        cross join lateral unnest(l.job_ids) as taken (id)
        cross join lateral (
            select r.id
            from rowcrew.jobs r
            where r.shard = 0 and r.id = taken.id and r.claim_id = l.claim_id and r.state = 'running'
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
    select $1, $2, h.claim_id, array_agg(h.id)
    from held h
    where h.locked
    group by h.claim_id
),
back as (
    update rowcrew.jobs j
    set state = 'available', attempts = greatest(j.attempts - 1, 0), claimed_by = null, claim_id = null
    where j.shard = 0 and j.id = any (array(select h.id from held h where not h.locked))
    returning j.id
)
select count(b.id) as given_back, (select count(*) from held h where h.locked) as locked
from back b
having exists (select from lost) or exists (select from blocked)
