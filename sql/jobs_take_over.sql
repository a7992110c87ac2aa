-- Takes running jobs over from the worker that claimed them, for a worker that was started for them.
--
-- The claim is a new one: what the other worker still writes under its own comes too late.
--
-- Params:  $1 worker_id int8, $2 batch int8, $3 ids int8[] (ascending), $4 claim_ids int8[] (the claims they run
--          under, those of the other worker, each once)
-- Returns: id int8, claim_id int8, kind text, queue text, priority int2, payload jsonb, attempts int4,
--          created_at timestamptz, due_at timestamptz, claimed_at timestamptz, expires_at timestamptz,
--          keep bool, extra jsonb (as job_claim)
-- Locks:   the jobs, in order of id
-- Plan:    Index Scan using jobs_pkey
with claimed as (
    update rowcrew.jobs j
    set claimed_by = $1, claim_id = (select nextval('rowcrew.claim_ids')), claimed_at = now()
    where j.shard = 0 and j.id = any ($3) and j.claim_id = any ($4) and j.state = 'running'
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
