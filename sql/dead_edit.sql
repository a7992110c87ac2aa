-- Gives a dead job another payload, if it is not too large to be revived: edited, too large, unknown.
--
-- Params:  $1 id int8, $2 payload jsonb, $3 bytes_max int4
-- Returns: outcome text
-- Locks:   the one row
-- Plan:    Index Scan using dead_jobs_pkey
with edited as (
    update rowcrew.dead_jobs d
    set payload = $2::jsonb
    where d.shard = 0 and d.id = $1 and pg_column_size($2::jsonb) <= $3
    returning d.id
),
noted as (
    select rowcrew.record_event('edit', 'job ' || e.id, '{"changed": "payload"}') as noted
    from edited e
)
select case
    when (select count(*) from noted) > 0 then 'edited'
    when pg_column_size($2::jsonb) > $3 then 'too large'
    else 'unknown'
end as outcome
