-- Deletes dead jobs for good, the oldest death first: those that were dead at a moment, so many at a time.
--
-- limit (select ...): not knowing the number, the planner goes by the index and stops early, whatever it
-- takes the table for.
-- coalesce: nor does it take a filter for so rare that reading and sorting the table were cheaper.
--
-- Params:  $1 kind text, $2 queue text, $3 reason text, $4 dead_at timestamptz, $5 at_most int8,
--          $6 fingerprint text
-- Returns: jobs int8
-- Locks:   the rows it deletes; passes over locked ones
-- Plan:    Index Scan using dead_jobs_died, Index Scan using dead_jobs_pkey
with picked as materialized (
    select d.id
    from rowcrew.dead_jobs d
    where d.shard = 0 and d.died_at <= $4
        and coalesce(d.kind = $1, true) and coalesce(d.queue = $2, true) and coalesce(d.reason = $3, true)
        and case when $6::text is null then true
            else rowcrew.dead_fingerprint(d.kind, d.reason, d.errors) = $6 end
    order by d.died_at
    limit (select $5::bigint)
    for update skip locked
),
gone as (
    delete from rowcrew.dead_jobs d
    where d.shard = 0 and d.id = any (array(select p.id from picked p))
    returning d.id
),
counted as (
    select count(*) as jobs
    from gone
),
noted as (
    select rowcrew.record_event('discard', c.jobs || ' jobs', jsonb_strip_nulls(jsonb_build_object(
        'kind', $1::text, 'queue', $2::text, 'reason', $3::text, 'fingerprint', $6::text))) as noted
    from counted c
    where c.jobs > 0
)
select c.jobs
from counted c
left join noted n on true
