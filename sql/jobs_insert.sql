-- Inserts one job for each object of an array; for programs that enqueue over a driver of their own.
--
-- Params:  $1 jobs jsonb (an array of objects: kind, payload and every other column of jobs that a user may set)
-- Returns: id int8 (of those inserted: a job whose unique_key is taken is left out)
-- Locks:   the rows it inserts
-- Plan:    none
select id
from rowcrew.enqueue_many($1) as id
