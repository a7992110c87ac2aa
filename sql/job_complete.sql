-- Ends one job as completed, at the end of the transaction that had its effect: the job leaves jobs for finished_jobs.
-- Fails if it does not run under its claim any more, so that a commit that was sent along is a rollback.
--
-- Params:  $1 id int8, $2 claim_id int8, $3 result jsonb (null: there is none)
-- Returns: held bool (true)
-- Locks:   the one row
-- Plan:    Index Scan using jobs_pkey
with removed as (
    delete from rowcrew.jobs j
    where j.shard = 0 and j.id = $1 and j.claim_id = $2 and j.state = 'running'
    returning
        j.shard, j.id, j.kind, j.payload, j.queue, j.priority, j.run_at, j.max_attempts, j.unique_key, j.group_key,
        j.tags, j.meta, j.attempts, j.crashes, j.claimed_by, j.claimed_at, j.last_error, j.errors, j.created_at
),
kept as (
    insert into rowcrew.finished_jobs
        (shard, id, kind, payload, queue, priority, run_at, max_attempts, unique_key, group_key, tags, meta,
         attempts, crashes, claimed_by, claimed_at, last_error, errors, created_at, state, result)
    select
        r.shard, r.id, r.kind, r.payload, r.queue, r.priority, r.run_at, r.max_attempts, r.unique_key, r.group_key,
        r.tags, r.meta, r.attempts, r.crashes, r.claimed_by, r.claimed_at, r.last_error, r.errors, r.created_at,
        'completed', $3::jsonb
    from removed r
)
-- A text that is no boolean is the shortest way to fail, and says why in the server's log.
select case when count(*) = 1 then true else (count(*) || ' jobs run under the claim')::boolean end as held
from removed
