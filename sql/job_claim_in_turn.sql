-- As job_claim, for workers that take turns at a backlog: begins behind what others took, and says how far it went.
--
-- A statement of its own, because what it has more (`front` and `shared`) would cost every claim a tenth of its time.
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
-- Plan:    Index Scan using jobs_ready, Tid Scan on jobs, Index Only Scan using frontiers_newest
with claimed as (
    update rowcrew.jobs j
    set
        state = 'running',
        attempts = j.attempts
            + case when j.expires_at <= now() or j.cancel_requested_at is not null then 0 else 1 end,
        claimed_by = $1,
        claim_id = (select nextval('rowcrew.claim_ids')),
        claimed_at = now()
    where j.ctid = any (array(
            select picked.ctid
            from unnest($5::text[], $6::smallint[], $7::timestamptz[], $8::bigint[])
                as lane (queue, priority, after_due_at, after_id)
            left join lateral (
                select f.due_at, f.id
                from rowcrew.frontiers f
                -- A lane without a cursor is swept from its start.
                where lane.after_due_at > '-infinity'
                    and f.shard = 0 and f.queue = lane.queue and f.priority = lane.priority
                    -- Who takes other kinds has passed over jobs of ours.
                    and f.kinds = (select hashtextextended(array_to_string($3::text[], ','), 0))
                    and (f.due_at, f.id) > (lane.after_due_at, lane.after_id)
                order by f.due_at desc, f.id desc
                limit 1
            ) as front on true
            cross join lateral (
                select due.ctid
                from rowcrew.jobs due
                where due.shard = 0
                    and due.queue = lane.queue
                    and due.priority = lane.priority and due.priority >= 0
                    and (due.due_at, due.id)
                        > (coalesce(front.due_at, lane.after_due_at), coalesce(front.id, lane.after_id))
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
),
shared as (
    -- Of the lane that was reached last, in which there is more.
    insert into rowcrew.frontiers (queue, priority, kinds, due_at, id)
    select c.queue, c.priority, hashtextextended(array_to_string($3::text[], ','), 0), c.due_at, c.id
    from claimed c
    order by c.priority desc, c.due_at desc, c.id desc
    limit 1
)
select
    c.id, c.claim_id, c.kind, c.queue, c.priority, c.payload, c.attempts,
    c.created_at, c.due_at, c.claimed_at, c.expires_at, c.keep, c.extra
from claimed c
