-- Pauses a kind until a moment, for a time, or until it is resumed.
--
-- Params:  $1 kind text, $2 until timestamptz, $3 for_ms int8, $4 reason text
-- Returns: paused void, until text
-- Locks:   the kind's row
-- Plan:    none
select rowcrew.pause_kind($1, asked.until, $4) as paused, to_json(coalesce(asked.until, 'infinity')) #>> '{}' as until
from (select coalesce($2, clock_timestamp() + $3::bigint * interval '1 millisecond') as until) asked
