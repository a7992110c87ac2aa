-- Shows every worker's beat, and whether the server still holds a lock of it.
--
-- provable: its locks were taken on this server since it started, so that their absence proves that it is gone.
-- (A standby that was promoted started at another moment than the server whose locks the row tells of.)
--
-- Params:  none
-- Returns: id int8, beat int8, locked bool, provable bool
-- Locks:   none
-- Plan:    none
with held as materialized (
    -- Once for all workers: each look at the server's locks stops all who take or free one.
    select array_agg((l.classid::bigint << 32) | l.objid::bigint) as keys
    from pg_catalog.pg_locks l
    where l.locktype = 'advisory'
        and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = current_database())
        and l.objsubid = 1
)
select
    w.id,
    w.beat,
    coalesce(w.lock_key = any (h.keys), false) as locked,
    coalesce(w.locked_on = pg_postmaster_start_time(), false) as provable
from rowcrew.workers w
cross join held h
