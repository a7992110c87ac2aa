-- Counts dead jobs, up to a limit, and tells the moment for which the count holds.
--
-- limit (select ...): not knowing the number, the planner goes by the index and stops early, whatever it
-- takes the table for.
-- coalesce: nor does it take a filter for so rare that reading and sorting the table were cheaper.
--
-- Params:  $1 kind text, $2 queue text, $3 reason text, $4 at_most int8, $5 fingerprint text
-- Returns: jobs int8, counted_at timestamptz
-- Locks:   none
-- Plan:    Index Scan using dead_jobs_died (all of it, while fewer than at_most are found)
select count(*) as jobs, now() as counted_at
from (
    select
    from rowcrew.dead_jobs d
    where d.shard = 0
        and coalesce(d.kind = $1, true) and coalesce(d.queue = $2, true) and coalesce(d.reason = $3, true)
        and case when $5::text is null then true
            else rowcrew.dead_fingerprint(d.kind, d.reason, d.errors) = $5 end
    order by d.died_at
    limit (select $4::bigint)
) counted
