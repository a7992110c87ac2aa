-- Puts claimed jobs back: to retry after a failure, or unharmed (snoozed, or given back), which costs no attempt.
--
-- Params:  $1 ids int8[] (ascending), $2 claim_ids int8[] (the claims they run under, each once),
--          $3 how jsonb (an object, by id: {"wait_ms": null leaves it due as it was,
--          "error": an entry for the history; null: the attempt does not count, "message": for last_error}),
--          $4 worker_id int8, $5 batches int8[] (claims of the worker of which nothing is left)
-- Returns: nothing (the number of jobs written is the statement's own)
-- Locks:   the jobs, in order of id
-- Plan:    Index Scan using jobs_pkey
with emptied as (
    delete from rowcrew.claims c
    where c.shard = 0 and c.worker_id = $4 and c.batch = any ($5)
        -- Says nothing new. Whatever plan is made, it does not begin with all that this worker ever claimed.
        and c.batch >= (select min(b) from unnest($5) b)
)
update rowcrew.jobs j
set
    state = 'available',
    attempts = case when $3::jsonb -> j.id::text ? 'error' then j.attempts else greatest(j.attempts - 1, 0) end,
    -- One whose cancellation was asked for does not wait: its next claim ends it.
    retry_at = case
        when not $3::jsonb -> j.id::text ? 'wait_ms' then j.retry_at
        when j.cancel_requested_at is not null then clock_timestamp()
        else clock_timestamp() + ($3::jsonb -> j.id::text ->> 'wait_ms')::bigint * interval '1 millisecond'
    end,
    last_error = coalesce($3::jsonb -> j.id::text ->> 'message', j.last_error),
    errors = case
        when not $3::jsonb -> j.id::text ? 'error' then j.errors
        when jsonb_array_length(j.errors) >= 100 then (j.errors - 0) || ($3::jsonb -> j.id::text -> 'error')
        else coalesce(j.errors, '[]') || ($3::jsonb -> j.id::text -> 'error')
    end,
    claimed_by = null,
    claim_id = null
where j.shard = 0 and j.id = any ($1) and j.claim_id = any ($2) and j.state = 'running'
