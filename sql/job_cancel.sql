-- Cancels a job: cancelled, cancelling (its worker is told), finished or dead (too late), unknown.
--
-- Params:  $1 id int8
-- Returns: outcome text
-- Locks:   the one row
-- Plan:    none
select rowcrew.cancel($1) as outcome
