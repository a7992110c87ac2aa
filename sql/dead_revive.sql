-- Puts one dead job back to run at once: revived, taken (another job has its unique_key), unknown.
--
-- Params:  $1 id int8
-- Returns: outcome text
-- Locks:   the one row
-- Plan:    Index Only Scan using dead_jobs_pkey (revive finds the row by its id, too)
select case
    when rowcrew.revive(id => $1) then 'revived'
    when exists (select from rowcrew.dead_jobs d where d.shard = 0 and d.id = $1) then 'taken'
    else 'unknown'
end as outcome
