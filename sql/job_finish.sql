-- Ends jobs as completed or cancelled: each leaves jobs, if it still runs under its claim, for finished_jobs.
--
-- Params:  $1 ids int8[] (ascending), $2 claim_ids int8[], $3 states text[], $4 results text[] (JSON or null),
--          $5 keep bool (false: finished jobs are not kept), $6 worker_id int8,
--          $7 batches int8[] (claims of the worker of which nothing is left)
-- Returns: id int8
-- Locks:   the jobs, in the order given
-- Plan:    Index Scan using jobs_pkey
with held as materialized (
    select mine.id, ending.state, ending.result
    from unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[]) as ending (id, claim_id, state, result)
    -- Lateral with a limit: one look-up in the primary key for each, whatever the statistics say.
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
        h.state, h.result::jsonb
    from removed r
    join held h on h.id = r.id
    where $5
        and r.queue <> all (array(select q.name from rowcrew.queues q where q.retention = interval '0'))
),
emptied as (
    delete from rowcrew.claims c
    where c.shard = 0 and c.worker_id = $6 and c.batch = any ($7::bigint[])
)
select r.id
from removed r
