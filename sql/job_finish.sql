-- Ends jobs as completed or cancelled: each leaves jobs, if it still runs under its claim, for finished_jobs.
--
-- Params:  $1 ids int8[] (ascending), $2 claim_ids int8[] (the claims they run under, each once),
--          $3 cancelled int8[] (those of the ids that end as cancelled),
--          $4 results jsonb (an object: the results of those that have one, by id),
--          $5 worker_id int8, $6 batches int8[] (claims of the worker of which nothing is left)
-- Returns: nothing (the number of jobs written is the statement's own)
-- Locks:   the jobs, in order of id
-- Plan:    Index Scan using jobs_pkey
with removed as (
    delete from rowcrew.jobs j
    where j.shard = 0 and j.id = any ($1) and j.claim_id = any ($2) and j.state = 'running'
    returning
        j.shard, j.id, j.kind, j.payload, j.queue, j.priority, j.run_at, j.max_attempts, j.unique_key, j.group_key,
        j.tags, j.meta, j.attempts, j.crashes, j.claimed_by, j.claimed_at, j.last_error, j.errors, j.created_at
),
emptied as (
    delete from rowcrew.claims c
    where c.shard = 0 and c.worker_id = $5 and c.batch = any ($6)
        -- Says nothing new. Whatever plan is made, it does not begin with all that this worker ever claimed.
        and c.batch >= (select min(b) from unnest($6) b)
)
insert into rowcrew.finished_jobs
    (shard, id, kind, payload, queue, priority, run_at, max_attempts, unique_key, group_key, tags, meta,
     attempts, crashes, claimed_by, claimed_at, last_error, errors, created_at, state, result)
select
    r.shard, r.id, r.kind, r.payload, r.queue, r.priority, r.run_at, r.max_attempts, r.unique_key, r.group_key,
    r.tags, r.meta, r.attempts, r.crashes, r.claimed_by, r.claimed_at, r.last_error, r.errors, r.created_at,
    case when r.id = any ($3) then 'cancelled' else 'completed' end,
    $4::jsonb -> r.id::text
from removed r
