-- Gives back jobs claimed in the name of workers that are not in the crew: their claims were still on the way
-- when they left or were taken for lost, or somebody had locked the job. None of these jobs has begun, but for those
-- that a rescue could not get at: it leaves them under the negative number of their claim, and they are at the cost of
-- an attempt and a crash.
--
-- claimers: one step in the index for each worker, however many claims it has.
-- places: claims are never updated, so that a locked one stays where it is.
-- remains: jobs that somebody has locked stay recorded, for the next time. It locks claims before jobs, unlike the writes
-- of endings, and cannot get into a circle with them: it never waits for a job.
--
-- Params:  none
-- Returns: given_back int8
-- Locks:   the claims in order of their key, then the jobs, passing over locked ones
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
    returning c.worker_id, c.batch, c.claim_id, c.job_ids
),
held as materialized (
    select
        running.id, running.worker_id, running.batch, running.claim_id, mine.id is null as locked,
        running.batch < 0 as lost,
        jsonb_build_object(
            'attempt', mine.attempts, 'at', now(), 'worker', running.worker_id, 'class', 'lost_worker',
            'error', 'its worker was lost: id ' || running.worker_id,
            -- As fingerprint.rs makes it.
            'fingerprint', left(encode(sha256(convert_to(mine.kind || e'\nlost_worker\n', 'UTF8')), 'hex'), 12)
        ) as error
    from (
        select j.id, o.worker_id, o.batch, o.claim_id
        from orphaned o
        cross join lateral unnest(o.job_ids) as taken (id)
        cross join lateral (
            select r.id
            from rowcrew.jobs r
            where r.shard = 0 and r.id = taken.id and r.claim_id = o.claim_id and r.state = 'running'
            limit 1
        ) as j
        order by j.id
    ) as running
    left join lateral (
        select j.id, j.kind, j.attempts
        from rowcrew.jobs j
        where j.shard = 0 and j.id = running.id and j.claim_id = running.claim_id and j.state = 'running'
        limit 1
        for update skip locked
    ) as mine on true
),
remains as (
    insert into rowcrew.claims (worker_id, batch, claim_id, job_ids)
    select h.worker_id, h.batch, h.claim_id, array_agg(h.id)
    from held h
    where h.locked
    group by h.worker_id, h.batch, h.claim_id
),
back as (
    update rowcrew.jobs j
    set
        state = 'available',
        attempts = case when h.lost then j.attempts else greatest(j.attempts - 1, 0) end,
        crashes = j.crashes + case when h.lost then 1 else 0 end,
        last_error = case when h.lost then h.error ->> 'error' else j.last_error end,
        errors = case when not h.lost then j.errors
            when jsonb_array_length(j.errors) >= 100 then (j.errors - 0) || h.error
            else coalesce(j.errors, '[]') || h.error end,
        claimed_by = null,
        claim_id = null
    from held h
    where j.shard = 0 and j.id = h.id and not h.locked
        and j.id = any (array(select i.id from held i where not i.locked))
    returning j.id
)
select count(*) as given_back
from back
