-- Shows that a worker lives.
--
-- Params:  $1 id int8, $2 running int4, $3 state text, $4 locked bool (both connections hold the lock),
--          $5 lock_key int8
-- Returns: clock timestamptz
-- Locks:   the worker's own row
-- Plan:    Index Scan using workers_pkey
update rowcrew.workers w
set
    beat = w.beat + 1,
    beat_at = clock_timestamp(),
    running = $2,
    state = $3,
    lock_key = $5,
    -- A lock from before the server's last start is gone with it: the one now held was taken since.
    locked_at = case when not $4 then null
        when w.locked_at > pg_postmaster_start_time() then w.locked_at
        else clock_timestamp() end
where w.id = $1
returning clock_timestamp() as clock
