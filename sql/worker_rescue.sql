-- Takes a lost worker from the crew and gives its jobs back: those it ran at once, at the cost of an attempt and
-- a crash; a job that ran alone when the worker died for the third time is buried as crashed, and then the
-- others, none of which had begun, go back unharmed.
--
-- Jobs that somebody has locked stay in claims for claims_reclaim, under the negative number of their claim if they are
-- to cost an attempt and a crash. Locks claims before jobs, unlike the writes of endings, and cannot get into a circle
-- with them: it never waits for a job.
--
-- Params:  $1 worker_id int8, $2 beat int8 (as last seen; if it has changed, the worker lives), $3 crashes_max int4
-- Returns: name text, given_back int8, buried int8
-- Locks:   the worker's row, its claims in order of their key, then the jobs, passing over locked ones
-- Plan:    Index Scan using workers_pkey, Index Scan using jobs_pkey
with lost as (
    delete from rowcrew.workers w
    where w.id = $1 and w.beat = $2
    returning w.id, w.name, w.alone_job_id
),
batches as (
    delete from rowcrew.claims c
    where c.shard = 0 and c.worker_id = (select l.id from lost l)
    returning c.batch, c.claim_id, c.job_ids
),
held as materialized (
    select
        running.id, running.batch, running.claim_id, mine.id is null as locked,
        running.id is not distinct from l.alone_job_id as alone,
        mine.crashes,
        jsonb_build_object(
            'attempt', mine.attempts, 'at', now(), 'worker', l.id, 'class', 'lost_worker',
            'error', 'its worker was lost: ' || l.name || ', id ' || l.id,
            -- As fingerprint.rs makes it.
            'fingerprint', left(encode(sha256(convert_to(mine.kind || e'\nlost_worker\n', 'UTF8')), 'hex'), 12)
        ) as error
    from lost l
    cross join lateral (
        select j.id, b.batch, b.claim_id
        from batches b
        cross join lateral unnest(b.job_ids) as taken (id)
        cross join lateral (
            select r.id
            from rowcrew.jobs r
            where r.shard = 0 and r.id = taken.id and r.claim_id = b.claim_id and r.state = 'running'
            limit 1
        ) as j
        order by j.id
    ) as running
    left join lateral (
        select j.id, j.kind, j.attempts, j.crashes
        from rowcrew.jobs j
        where j.shard = 0 and j.id = running.id and j.claim_id = running.claim_id and j.state = 'running'
        limit 1
        for update skip locked
    ) as mine on true
),
judged as materialized (
    select
        h.id, h.batch, h.claim_id, h.locked, h.error,
        -- A job that ran alone and has ended since is no excuse for those that followed it.
        h.alone or not exists (select from held i where i.alone) as blamed,
        not h.locked and h.alone and h.crashes + 1 >= $3 as condemned
    from held h
),
back as (
    update rowcrew.jobs j
    set
        state = 'available',
        attempts = case when h.blamed then j.attempts else greatest(j.attempts - 1, 0) end,
        crashes = j.crashes + case when h.blamed then 1 else 0 end,
        last_error = case when h.blamed then h.error ->> 'error' else j.last_error end,
        errors = case when not h.blamed then j.errors
            when jsonb_array_length(j.errors) >= 100 then (j.errors - 0) || h.error
            else coalesce(j.errors, '[]') || h.error end,
        claimed_by = null,
        claim_id = null
    from judged h
    where j.shard = 0 and j.id = h.id and not h.condemned and not h.locked
        and j.id = any (array(select i.id from held i where not i.locked))
    returning j.id
),
remains as (
    insert into rowcrew.claims (worker_id, batch, claim_id, job_ids)
    select (select l.id from lost l), case when h.blamed then -h.batch else h.batch end, h.claim_id, array_agg(h.id)
    from judged h
    where h.locked
    group by h.blamed, h.batch, h.claim_id
),
removed as (
    delete from rowcrew.jobs j
    where j.shard = 0 and j.id = any (array(select h.id from judged h where h.condemned))
    returning
        j.shard, j.id, j.kind, j.payload, j.queue, j.priority, j.run_at, j.max_attempts, j.backoff, j.timeout,
        j.expires_at, j.unique_key, j.group_key, j.tags, j.meta, j.attempts, j.crashes, j.retry_at, j.claimed_by,
        j.claim_id, j.claimed_at, j.progress, j.errors, j.created_at
),
buried as (
    insert into rowcrew.dead_jobs
        (shard, id, kind, payload, queue, priority, run_at, max_attempts, backoff, timeout, expires_at, unique_key,
         group_key, tags, meta, attempts, crashes, retry_at, claimed_by, claim_id, claimed_at, progress, created_at,
         last_error, errors, reason)
    select
        r.shard, r.id, r.kind, r.payload, r.queue, r.priority, r.run_at, r.max_attempts, r.backoff, r.timeout,
        r.expires_at, r.unique_key, r.group_key, r.tags, r.meta, r.attempts, r.crashes + 1, r.retry_at, r.claimed_by,
        r.claim_id, r.claimed_at, r.progress, r.created_at,
        h.error ->> 'error', coalesce(r.errors, '[]') || h.error, 'crashed'
    from removed r
    join judged h on h.id = r.id
    returning id
),
noted as (
    insert into rowcrew.events (action, target, detail)
    select 'rescue', 'worker ' || l.id, jsonb_build_object(
        'name', l.name, 'given_back', (select count(*) from back), 'buried', (select count(*) from buried))
    from lost l
)
select l.name, (select count(*) from back) as given_back, (select count(*) from buried) as buried
from lost l
