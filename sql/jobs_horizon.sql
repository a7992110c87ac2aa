-- Finds the id down to which a filtered list looks: the 100,000th of each table asked for, the largest of these.
--
-- offset (select ...): not knowing the number, the planner goes by the index and stops early, whatever it
-- takes the table for.
--
-- Params:  $1 after int8, $2 live bool, $3 finished bool, $4 dead bool
-- Returns: horizon int8
-- Locks:   none
-- Plan:    Index Only Scan Backward using jobs_pkey, Index Only Scan Backward using dead_jobs_pkey
select greatest(
    (
        select j.id
        from rowcrew.jobs j
        where $2 and j.shard = 0 and j.id < $1
        order by j.id desc
        limit 1 offset (select 99999)
    ),
    (
        select f.id
        from rowcrew.finished_jobs f
        where $3 and f.shard = 0 and f.id < $1
        order by f.id desc
        limit 1 offset (select 99999)
    ),
    (
        select d.id
        from rowcrew.dead_jobs d
        where $4 and d.shard = 0 and d.id < $1
        order by d.id desc
        limit 1 offset (select 99999)
    )
) as horizon
