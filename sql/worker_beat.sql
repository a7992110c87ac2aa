-- Shows that a worker lives.
--
-- Params:  $1 id int8, $2 running int4, $3 state text, $4 locked bool (both connections hold the lock),
--          $5 lock_key int8, $6 blocking jsonb (its blocking threads; null if it needs none),
--          $7 kinds_down text[] (of which it can run no job now)
-- Returns: clock timestamptz, crew int8 (workers there are, this one and the lost included)
-- Locks:   the worker's own row
-- Plan:    Index Scan using workers_pkey
update rowcrew.workers w
set
    beat = w.beat + 1,
    beat_at = clock_timestamp(),
    running = $2,
    state = $3,
    lock_key = $5,
    blocking = $6,
    kinds_down = $7,
    -- A lock on another server, or from before this one's start, is gone with it: the one now held is new.
    locked_at = case when not $4 then null
        when w.locked_on = pg_postmaster_start_time() then coalesce(w.locked_at, clock_timestamp())
        else clock_timestamp() end,
    locked_on = case when $4 then pg_postmaster_start_time() end
where w.id = $1
returning
    clock_timestamp() as clock,
    (select count(*) from rowcrew.workers) as crew
