-- Tells all workers that jobs came back: they may stand before what has been claimed since.
--
-- Params:  none
-- Returns: pg_notify void
-- Locks:   none
-- Plan:    none
select pg_notify('rowcrew_jobs', 'back ' || 'rowcrew')
