-- Finds which of the jobs that a worker believes to hold it must stop: cancelled, buried or taken from it.
--
-- Params:  $1 ids int8[], $2 claim_ids int8[]
-- Returns: id int8, cancelled bool (false: it is not this worker's any more)
-- Locks:   none
-- Plan:    Index Scan using jobs_pkey
select held.id, coalesce(mine.cancelled, false) as cancelled
from unnest($1::bigint[], $2::bigint[]) as held (id, claim_id)
left join lateral (
    select j.cancel_requested_at is not null as cancelled
    from rowcrew.jobs j
    where j.shard = 0 and j.id = held.id and j.claim_id = held.claim_id and j.state = 'running'
    limit 1
) as mine on true
where mine.cancelled is distinct from false
