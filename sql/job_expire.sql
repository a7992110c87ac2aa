-- Buries waiting jobs whose expires_at has passed; those running are stopped by their workers.
--
-- Params:  $1 at_most int8
-- Returns: queue text, kind text, jobs int8
-- Locks:   the rows it takes, passing over locked ones; then those of job_stats that count them
-- Plan:    Index Scan using jobs_expires, Index Scan using jobs_pkey
with picked as materialized (
    select j.id
    from rowcrew.jobs j
    where j.shard = 0 and j.expires_at <= now() and j.state <> 'running'
    order by j.expires_at
    limit $1
    for update skip locked
),
removed as (
    delete from rowcrew.jobs j
    where j.shard = 0 and j.id = any (array(select p.id from picked p))
    returning
        j.shard, j.id, j.kind, j.payload, j.queue, j.priority, j.run_at, j.max_attempts, j.backoff, j.timeout,
        j.expires_at, j.unique_key, j.group_key, j.tags, j.meta, j.attempts, j.crashes, j.retry_at, j.claimed_by,
        j.claim_id, j.claimed_at, j.progress, j.last_error, j.errors, j.created_at
),
buried as (
    insert into rowcrew.dead_jobs
        (shard, id, kind, payload, queue, priority, run_at, max_attempts, backoff, timeout, expires_at, unique_key,
         group_key, tags, meta, attempts, crashes, retry_at, claimed_by, claim_id, claimed_at, progress, created_at,
         last_error, errors, reason)
    select
        r.shard, r.id, r.kind, r.payload, r.queue, r.priority, r.run_at, r.max_attempts, r.backoff, r.timeout,
        r.expires_at, r.unique_key, r.group_key, r.tags, r.meta, r.attempts, r.crashes, r.retry_at, r.claimed_by,
        r.claim_id, r.claimed_at, r.progress, r.created_at,
        coalesce('expired before it was begun again; the last try failed: ' || r.last_error, 'expired before it was begun'),
        r.errors, 'expired'
    from removed r
    returning queue, kind
),
ended as (
    select b.queue, b.kind, count(*) as jobs
    from buried b
    group by b.queue, b.kind
),
counted as (
    insert into rowcrew.job_stats as s (bucket_at, queue, kind, worker_id, dead)
    select date_bin('10 seconds', now(), 'epoch'), e.queue, e.kind, 0, e.jobs
    from ended e
    order by e.queue, e.kind
    on conflict on constraint job_stats_pkey do update set dead = s.dead + excluded.dead
)
select e.queue, e.kind, e.jobs
from ended e
