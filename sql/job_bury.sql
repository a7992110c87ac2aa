-- Moves claimed jobs to the dead letters: out of attempts, failed for good, or expired.
--
-- Params:  $1 ids int8[] (ascending), $2 claim_ids int8[] (the claims they run under, each once),
--          $3 why jsonb (an object, by id: {"reason", "error": an entry for the history, "message": for last_error}),
--          $4 worker_id int8, $5 batches int8[] (claims of the worker of which nothing is left)
-- Returns: nothing (the number of jobs written is the statement's own)
-- Locks:   the jobs, in order of id
-- Plan:    Index Scan using jobs_pkey
with removed as (
    delete from rowcrew.jobs j
    where j.shard = 0 and j.id = any ($1) and j.claim_id = any ($2) and j.state = 'running'
    returning
        j.shard, j.id, j.kind, j.payload, j.queue, j.priority, j.run_at, j.max_attempts, j.backoff, j.timeout,
        j.expires_at, j.unique_key, j.group_key, j.tags, j.meta, j.attempts, j.crashes, j.retry_at, j.claimed_by,
        j.claim_id, j.claimed_at, j.progress, j.errors, j.created_at
),
emptied as (
    delete from rowcrew.claims c
    where c.shard = 0 and c.worker_id = $4 and c.batch = any ($5)
        -- Says nothing new. Whatever plan is made, it does not begin with all that this worker ever claimed.
        and c.batch >= (select min(b) from unnest($5) b)
)
insert into rowcrew.dead_jobs
    (shard, id, kind, payload, queue, priority, run_at, max_attempts, backoff, timeout, expires_at, unique_key,
     group_key, tags, meta, attempts, crashes, retry_at, claimed_by, claim_id, claimed_at, progress, created_at,
     last_error, errors, reason)
select
    r.shard, r.id, r.kind, r.payload, r.queue, r.priority, r.run_at, r.max_attempts, r.backoff, r.timeout,
    r.expires_at, r.unique_key, r.group_key, r.tags, r.meta, r.attempts, r.crashes, r.retry_at, r.claimed_by,
    r.claim_id, r.claimed_at, r.progress, r.created_at,
    $3::jsonb -> r.id::text ->> 'message',
    case
        when jsonb_array_length(r.errors) >= 100 then (r.errors - 0) || ($3::jsonb -> r.id::text -> 'error')
        else coalesce(r.errors, '[]') || ($3::jsonb -> r.id::text -> 'error')
    end,
    $3::jsonb -> r.id::text ->> 'reason'
from removed r
