-- Deletes dead jobs for good, by id.
--
-- Params:  $1 ids int8[]
-- Returns: id int8
-- Locks:   the rows it deletes, in order of id
-- Plan:    Index Scan using dead_jobs_pkey
with picked as materialized (
    select d.id
    from rowcrew.dead_jobs d
    where d.shard = 0 and d.id = any ($1)
    order by d.id
    for update
),
gone as (
    delete from rowcrew.dead_jobs d
    where d.shard = 0 and d.id = any (array(select p.id from picked p))
    returning d.id
),
noted as (
    select g.id, rowcrew.record_event('discard', 'job ' || g.id, null) as noted
    from gone g
)
select n.id
from noted n
