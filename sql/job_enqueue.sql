-- Inserts one job; where its unique_key is taken by an unfinished job of the kind, answers that one.
--
-- existing: the sequence moves for every try to insert, so the id is the last one drawn only if it is new.
--
-- Params:  $1 kind text, $2 payload jsonb, $3 queue text, $4 priority int4, $5 run_at timestamptz, $6 run_in_ms int8,
--          $7 max_attempts int4, $8 backoff jsonb, $9 timeout interval, $10 expires_at timestamptz,
--          $11 expires_in_ms int8, $12 unique_key text, $13 group_key text, $14 tags text[], $15 meta jsonb
-- Returns: id int8, existing bool
-- Locks:   the row it inserts
-- Plan:    none
with made as materialized (
    select rowcrew.enqueue(
        kind => $1, payload => $2, queue => $3, priority => $4,
        run_at => coalesce($5, now() + $6::bigint * interval '1 millisecond'),
        max_attempts => $7, backoff => $8, timeout => $9,
        expires_at => coalesce($10, now() + $11::bigint * interval '1 millisecond'),
        unique_key => $12, group_key => $13, tags => $14, meta => $15
    ) as id
)
select
    m.id,
    case when $12 is null then false
        else m.id <> currval(pg_get_serial_sequence('rowcrew.jobs', 'id')) end as existing
from made m
