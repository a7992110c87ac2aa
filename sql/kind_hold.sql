-- Pauses a kind for a time, or disables it, because of what a handler was told; never shortens a pause.
--
-- Params:  $1 kind text, $2 for_ms int8 (null: until somebody resumes it), $3 reason text
-- Returns: held bool
-- Locks:   the kind's row
-- Plan:    none
select rowcrew.hold_kind($1, $2::bigint * interval '1 millisecond', $3) as held
