-- Counts dead jobs, up to a limit, and tells the moment for which the count holds.
--
-- Params:  $1 kind text, $2 queue text, $3 reason text, $4 at_most int8
-- Returns: jobs int8, counted_at timestamptz
-- Locks:   none
-- Plan:    none
select count(*) as jobs, now() as counted_at
from (
    select
    from rowcrew.dead_jobs d
    where d.shard = 0
        and ($1::text is null or d.kind = $1) and ($2::text is null or d.queue = $2) and ($3::text is null or d.reason = $3)
    limit $4
) counted
