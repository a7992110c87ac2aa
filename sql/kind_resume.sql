-- Ends the pause of a kind; answers whether there was one.
--
-- Params:  $1 kind text
-- Returns: resumed bool
-- Locks:   the kind's row
-- Plan:    none
select rowcrew.resume_kind($1) as resumed
