-- Sets whether finished jobs of a queue are kept.
--
-- Params:  $1 queue text, $2 keep_none bool
-- Returns: name text
-- Locks:   the queue's row
-- Plan:    none
with changed as (
    insert into rowcrew.queues as q (name, retention)
    values ($1, case when $2 then interval '0' end)
    on conflict (name) do update set retention = excluded.retention, updated_at = now()
    returning q.name
),
noted as (
    select
        c.name,
        rowcrew.record_event('set', 'queue ' || c.name, jsonb_build_object(
            'retention', case when $2 then '0' else 'default' end)) as noted
    from changed c
)
select n.name
from noted n
