-- Shows every worker's beat, and whether the server still holds a lock of it.
--
-- provable: its locks were taken on this server since it started, so that their absence proves that it is gone.
-- (A standby that was promoted started at another moment than the server whose locks the row tells of.)
--
-- Params:  none
-- Returns: id int8, beat int8, locked bool, provable bool
-- Locks:   none
-- Plan:    none
select
    w.id,
    w.beat,
    exists (
        select from pg_catalog.pg_locks l
        where l.locktype = 'advisory'
            and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = current_database())
            and l.classid::bigint = (w.lock_key >> 32) & 4294967295
            and l.objid::bigint = w.lock_key & 4294967295
            and l.objsubid = 1
    ) as locked,
    coalesce(w.locked_on = pg_postmaster_start_time(), false) as provable
from rowcrew.workers w
