-- Deletes dead letters past their time.
--
-- Params:  $1 keep_days int4, $2 at_most int8
-- Returns: id int8
-- Locks:   the rows it deletes; passes over locked ones
-- Plan:    Index Scan using dead_jobs_died, Index Scan using dead_jobs_pkey
delete from rowcrew.dead_jobs d
where d.shard = 0
    and d.id = any (array(
        select past.id
        from rowcrew.dead_jobs past
        where past.shard = 0 and past.died_at < now() - $1::integer * interval '1 day'
        order by past.died_at
        limit $2
        for update skip locked
    ))
returning d.id
