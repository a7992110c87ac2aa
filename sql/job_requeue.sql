-- Puts claimed jobs back: to retry after a failure, or unharmed (snoozed, or given back), which costs no attempt.
--
-- Params:  $1 ids int8[] (ascending), $2 claim_ids int8[], $3 waits_ms int8[] (null leaves it due as it was),
--          $4 errors text[] (a JSON entry for the history; null: the attempt does not count),
--          $5 messages text[], $6 worker_id int8, $7 batches int8[]
-- Returns: id int8
-- Locks:   the jobs, in the order given
-- Plan:    Index Scan using jobs_pkey
with held as materialized (
    select mine.id, ending.wait_ms, ending.error, ending.message
    from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::text[])
        as ending (id, claim_id, wait_ms, error, message)
    cross join lateral (
        select j.id
        from rowcrew.jobs j
        where j.shard = 0 and j.id = ending.id and j.claim_id = ending.claim_id and j.state = 'running'
        limit 1
        for update
    ) as mine
),
back as (
    update rowcrew.jobs j
    set
        state = 'available',
        attempts = case when h.error is null then greatest(j.attempts - 1, 0) else j.attempts end,
        -- One whose cancellation was asked for does not wait: its next claim ends it.
        retry_at = case when h.wait_ms is null then j.retry_at
            when j.cancel_requested_at is not null then clock_timestamp()
            else clock_timestamp() + h.wait_ms * interval '1 millisecond' end,
        last_error = coalesce(h.message, j.last_error),
        errors = case when h.error is null then j.errors
            when jsonb_array_length(j.errors) >= 100 then (j.errors - 0) || h.error::jsonb
            else coalesce(j.errors, '[]') || h.error::jsonb end,
        claimed_by = null,
        claim_id = null
    from held h
    where j.shard = 0 and j.id = h.id and j.id = any (array(select i.id from held i))
    returning j.id
),
emptied as (
    delete from rowcrew.claims c
    where c.shard = 0 and c.worker_id = $6 and c.batch = any ($7::bigint[])
)
select b.id
from back b
