-- Removes the frontiers that newer ones have overtaken; a lane nobody claims from any more needs none.
--
-- Params:  none
-- Returns: nothing (the number of rows removed is the statement's own)
-- Locks:   the rows it removes; nobody else writes to them
-- Plan:    none
delete from rowcrew.frontiers f
where f.moved_at < now() - interval '30 seconds'
