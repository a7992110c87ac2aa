-- Deletes jobs of a queue that are not running, so many at a time.
--
-- Params:  $1 queue text, $2 at_most int4
-- Returns: jobs int8
-- Locks:   the rows it deletes; passes over locked ones
-- Plan:    none
select rowcrew.purge($1, $2) as jobs
