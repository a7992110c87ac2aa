-- Inserts one job with what it must have; for programs that enqueue over a driver of their own.
--
-- Params:  $1 kind text, $2 payload jsonb
-- Returns: id int8
-- Locks:   the row it inserts
-- Plan:    none
insert into rowcrew.jobs (kind, payload)
values ($1, $2)
returning id
