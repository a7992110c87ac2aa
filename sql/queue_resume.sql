-- Ends the pause of a queue; answers whether there was one.
--
-- Params:  $1 queue text
-- Returns: resumed bool
-- Locks:   the queue's row
-- Plan:    none
select rowcrew.resume($1) as resumed
