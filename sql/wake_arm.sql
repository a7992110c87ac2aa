-- Asks that the next insert into jobs rings.
--
-- Params:  none
-- Returns: setval int8
-- Locks:   none
-- Plan:    none
select setval('rowcrew.wake_gate', 0)
