-- Rings for idle workers by hand, after jobs came back.
--
-- Params:  none
-- Returns: pg_notify void
-- Locks:   none
-- Plan:    none
select pg_notify('rowcrew_jobs', 'wake ' || 'rowcrew')
