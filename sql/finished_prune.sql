-- Makes the coming days' partitions of finished_jobs and drops those past their time.
--
-- Params:  $1 keep_days int4
-- Returns: made int4, dropped int4
-- Locks:   finished_jobs and the dropped partition, exclusively, for an instant
-- Plan:    none
select rowcrew.make_partitions(7) as made, rowcrew.drop_partitions($1) as dropped
