-- Lists jobs, the largest id first. Reads 100,000 rows of each table at most, whatever the filters leave out;
-- jobs_horizon tells where that ends.
--
-- held: only what workers hold, found by their claims.
--
-- limit (select ...): not knowing the number, the planner goes by the index and stops early, whatever it
-- takes the table for.
--
-- Params:  $1 after int8, $2 state text, $3 queue text, $4 kind text, $5 tag text,
--          $6 live bool, $7 held bool, $8 finished bool, $9 dead bool, $10 horizon int8, $11 at_most int8
-- Returns: id int8, job text (a JSON object)
-- Locks:   none
-- Plan:    Index Scan Backward using jobs_pkey, Index Scan Backward using dead_jobs_pkey
select listed.id, row_to_json(listed)::text as job
from (
    (
        select
            look.id, look.kind, look.queue, look.state, look.priority, look.attempts, look.max_attempts,
            look.created_at, look.due_at, look.claimed_at, look.ended_at, look.tags, look.last_error
        from (
            select
                j.id, j.kind, j.queue, case
                    when j.state <> 'available' then j.state
                    when j.due_at <= now() then 'available'
                    when j.retry_at is not null then 'retrying'
                    else 'scheduled'
                end as state,
                j.priority, j.attempts, j.max_attempts, j.created_at, j.due_at as due_at, j.claimed_at,
                null::timestamptz as ended_at, j.tags, j.last_error
            from rowcrew.jobs j
            where $6 and j.shard = 0 and j.id < $1
            order by j.id desc
            limit (select 100000)
        ) look
        where look.id >= $10
            and ($2::text is null or look.state = $2)
            and ($3::text is null or look.queue = $3)
            and ($4::text is null or look.kind = $4)
            and ($5::text is null or $5 = any (look.tags))
        order by look.id desc
        limit $11
    )
    union all
    (
        select
            look.id, look.kind, look.queue, look.state, look.priority, look.attempts, look.max_attempts,
            look.created_at, look.due_at, look.claimed_at, look.ended_at, look.tags, look.last_error
        from (
            select
                j.id, j.kind, j.queue, j.state as state,
                j.priority, j.attempts, j.max_attempts, j.created_at, j.due_at as due_at, j.claimed_at,
                null::timestamptz as ended_at, j.tags, j.last_error
            from (
                select c.claim_id, c.job_ids
                from rowcrew.claims c
                where $7 and c.shard = 0
                order by c.worker_id, c.batch
                limit (select 100000)
            ) batch
            cross join lateral unnest(batch.job_ids) as taken (id)
            cross join lateral (
                select
                    r.id, r.kind, r.queue, r.state, r.priority, r.attempts, r.max_attempts, r.created_at, r.due_at,
                    r.claimed_at, r.tags, r.last_error
                from rowcrew.jobs r
                where r.shard = 0 and r.id = taken.id and r.id < $1 and r.claim_id = batch.claim_id
                    and r.state = 'running'
                limit 1
            ) j
            order by j.id desc
            limit (select 100000)
        ) look
        where look.id >= $10
            and ($2::text is null or look.state = $2)
            and ($3::text is null or look.queue = $3)
            and ($4::text is null or look.kind = $4)
            and ($5::text is null or $5 = any (look.tags))
        order by look.id desc
        limit $11
    )
    union all
    (
        select
            look.id, look.kind, look.queue, look.state, look.priority, look.attempts, look.max_attempts,
            look.created_at, look.due_at, look.claimed_at, look.ended_at, look.tags, look.last_error
        from (
            select
                f.id, f.kind, f.queue, f.state as state,
                f.priority, f.attempts, f.max_attempts, f.created_at, f.run_at as due_at, f.claimed_at,
                f.finished_at as ended_at, f.tags, f.last_error
            from rowcrew.finished_jobs f
            where $8 and f.shard = 0 and f.id < $1
            order by f.id desc
            limit (select 100000)
        ) look
        where look.id >= $10
            and ($2::text is null or look.state = $2)
            and ($3::text is null or look.queue = $3)
            and ($4::text is null or look.kind = $4)
            and ($5::text is null or $5 = any (look.tags))
        order by look.id desc
        limit $11
    )
    union all
    (
        select
            look.id, look.kind, look.queue, look.state, look.priority, look.attempts, look.max_attempts,
            look.created_at, look.due_at, look.claimed_at, look.ended_at, look.tags, look.last_error
        from (
            select
                d.id, d.kind, d.queue, 'dead' as state,
                d.priority, d.attempts, d.max_attempts, d.created_at, d.run_at as due_at, d.claimed_at,
                d.died_at as ended_at, d.tags, d.last_error
            from rowcrew.dead_jobs d
            where $9 and d.shard = 0 and d.id < $1
            order by d.id desc
            limit (select 100000)
        ) look
        where look.id >= $10
            and ($2::text is null or look.state = $2)
            and ($3::text is null or look.queue = $3)
            and ($4::text is null or look.kind = $4)
            and ($5::text is null or $5 = any (look.tags))
        order by look.id desc
        limit $11
    )
) listed
order by listed.id desc
limit $11
