-- Enters a worker into the crew.
--
-- Params:  $1 name text, $2 pid int4, $3 version text, $4 queues text[], $5 kinds text[], $6 concurrency int4,
--          $7 lock_class int4 (with the id it makes the worker's advisory lock)
-- Returns: id int8, lock_key int8
-- Locks:   none
-- Plan:    none
insert into rowcrew.workers (name, pid, version, queues, kinds, concurrency, lock_key)
values ($1, $2, $3, $4, $5, $6, 0)
returning id, ($7::integer::bigint << 32) | (id & 4294967295) as lock_key
