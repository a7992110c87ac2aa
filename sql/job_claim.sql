-- Takes due jobs of the worker's kinds for it and counts the attempt; a job already taken or locked is passed over.
--
-- Looks at one lane (queue and priority) after the other, in the order given, each from behind its cursor,
-- and records the batch in claims.
--
-- Params:  $1 worker_id int8, $2 batch int8, $3 kinds text[], $4 at_most int8,
--          $5 queues text[], $6 priorities int2[], $7 after_due_at timestamptz[], $8 after_id int8[]
-- Returns: id int8, claim_id int8, kind text, queue text, priority int2,
--          payload jsonb (null for a large one, so that a claim has 16 MB at most: see job_payload), attempts int4,
--          created_at timestamptz, due_at timestamptz, claimed_at timestamptz, expires_at timestamptz,
--          keep bool (whether it is kept when it is finished),
--          extra jsonb (what few jobs have: {"crashes", "max_attempts", "backoff", "timeout_ms", "cancelled",
--          "traceparent", "payload_bytes" that it can have at most}; null for the others, because each column of
--          its own costs every job)
-- Locks:   the rows it takes, in the order of their lanes; never waits for one
-- Plan:    Index Scan using jobs_ready, Tid Scan on jobs
with claimed as (
    update rowcrew.jobs j
    set
        state = 'running',
        attempts = j.attempts
            + case when j.expires_at <= now() or j.cancel_requested_at is not null then 0 else 1 end,
        claimed_by = $1,
        claim_id = (select nextval('rowcrew.claim_ids')),
        claimed_at = now()
    -- An array of places, not a join: no statistics can turn the plan into a scan of the table, and the
    -- primary key need not be looked into. The rows are locked here, so that they stay where they are.
    where j.ctid = any (array(
            select picked.ctid
            from unnest($5::text[], $6::smallint[], $7::timestamptz[], $8::bigint[])
                as lane (queue, priority, after_due_at, after_id)
            cross join lateral (
                select due.ctid
                from rowcrew.jobs due
                where due.shard = 0
                    and due.queue = lane.queue
                    and due.priority = lane.priority and due.priority >= 0
                    and (due.due_at, due.id) > (lane.after_due_at, lane.after_id)
                    and due.due_at <= now()
                    and due.state = 'available'
                    and due.kind = any ($3::text[])
                order by due.due_at, due.id
                limit $4
                for update skip locked
            ) as picked
            where lane.queue <> all (array(select q.name from rowcrew.queues q where q.paused_until > now()))
            limit $4
        ))
        and j.state = 'available'
    returning
        j.id, j.claim_id, j.kind, j.queue, j.priority,
        case
            when pg_column_size(j.payload) <= 4096
                or pg_column_size(j.payload) <= 16384 and pg_column_compression(j.payload) is null
            then j.payload
        end as payload,
        j.attempts,
        j.created_at, j.due_at, j.claimed_at, j.expires_at,
        j.queue <> all (array(select q.name from rowcrew.queues q where q.retention = interval '0')) as keep,
        case
            when j.crashes > 0 or j.max_attempts is not null or j.backoff is not null or j.timeout is not null
                or j.cancel_requested_at is not null or j.meta is not null or pg_column_size(j.payload) > 4096
            then jsonb_build_object(
                'crashes', j.crashes, 'max_attempts', j.max_attempts, 'backoff', j.backoff,
                'timeout_ms', (extract(epoch from j.timeout) * 1000)::bigint,
                'cancelled', j.cancel_requested_at is not null, 'traceparent', j.meta ->> 'traceparent',
                'payload_bytes', pg_column_size(j.payload)::bigint
                    * case pg_column_compression(j.payload) when 'pglz' then 90 when 'lz4' then 255 else 1 end
            )
        end as extra
),
recorded as (
    insert into rowcrew.claims (worker_id, batch, claim_id, job_ids)
    select $1, $2, min(c.claim_id), array_agg(c.id)
    from claimed c
    having count(*) > 0
)
select
    c.id, c.claim_id, c.kind, c.queue, c.priority, c.payload, c.attempts,
    c.created_at, c.due_at, c.claimed_at, c.expires_at, c.keep, c.extra
from claimed c
