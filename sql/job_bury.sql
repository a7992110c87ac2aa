-- Moves claimed jobs to the dead letters: out of attempts, failed for good, or expired.
--
-- Params:  $1 ids int8[] (ascending), $2 claim_ids int8[], $3 reasons text[],
--          $4 errors text[] (a JSON entry for the history), $5 messages text[], $6 worker_id int8, $7 batches int8[]
-- Returns: id int8
-- Locks:   the jobs, in the order given
-- Plan:    Index Scan using jobs_pkey
with held as materialized (
    select mine.id, ending.reason, ending.error, ending.message
    from unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[])
        as ending (id, claim_id, reason, error, message)
    cross join lateral (
        select j.id
        from rowcrew.jobs j
        where j.shard = 0 and j.id = ending.id and j.claim_id = ending.claim_id and j.state = 'running'
        limit 1
        for update
    ) as mine
),
removed as (
    delete from rowcrew.jobs j
    where j.shard = 0 and j.id = any (array(select h.id from held h))
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
        r.expires_at, r.unique_key, r.group_key, r.tags, r.meta, r.attempts, r.crashes, r.retry_at, r.claimed_by,
        r.claim_id, r.claimed_at, r.progress, r.created_at, h.message,
        case when jsonb_array_length(r.errors) >= 100 then (r.errors - 0) || h.error::jsonb
            else coalesce(r.errors, '[]') || h.error::jsonb end,
        h.reason
    from removed r
    join held h on h.id = r.id
    returning id
),
emptied as (
    delete from rowcrew.claims c
    where c.shard = 0 and c.worker_id = $6 and c.batch = any ($7::bigint[])
)
select b.id
from buried b
