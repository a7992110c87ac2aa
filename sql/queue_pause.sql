-- Pauses a queue until a moment, for a time, or until it is resumed.
--
-- Params:  $1 queue text, $2 until timestamptz, $3 for_ms int8
-- Returns: paused void, until text
-- Locks:   the queue's row
-- Plan:    none
select rowcrew.pause($1, asked.until) as paused, to_json(coalesce(asked.until, 'infinity')) #>> '{}' as until
from (select coalesce($2, now() + $3::bigint * interval '1 millisecond') as until) asked
