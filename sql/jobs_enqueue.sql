-- Inserts one job for each object of an array, as enqueue_many does; moments may be named as a time from now.
--
-- Params:  $1 jobs jsonb (an array of objects as for enqueue_many; run_in_ms and expires_in_ms serve as run_at and expires_at)
-- Returns: id int8 (of those inserted: a job whose unique_key is taken is left out)
-- Locks:   the rows it inserts
-- Plan:    none
select id
from rowcrew.enqueue_many((
    select coalesce(jsonb_agg(
        (e.job - '{run_in_ms, expires_in_ms}'::text[]) || jsonb_strip_nulls(jsonb_build_object(
            'run_at', coalesce(
                e.job -> 'run_at', to_jsonb(now() + (e.job ->> 'run_in_ms')::bigint * interval '1 millisecond')),
            'expires_at', coalesce(
                e.job -> 'expires_at', to_jsonb(now() + (e.job ->> 'expires_in_ms')::bigint * interval '1 millisecond'))
        ))
        order by e.at
    ), '[]')
    from jsonb_array_elements($1) with ordinality as e (job, at)
)) as id
