-- Counts the unfinished jobs of each queue, for the minute that begins.
--
-- Params:  none
-- Returns: rows int8
-- Locks:   none
-- Plan:    Index Only Scan using jobs_ready (once the table has been vacuumed)
with sampled as (
    insert into rowcrew.queue_depths (sampled_at, queue, depth)
    select date_trunc('minute', now()), j.queue, count(*)
    from rowcrew.jobs j
    where j.shard = 0 and j.priority >= 0
    group by j.queue
    union all
    -- A queue that has just run empty is counted once more, so that what it lost is seen.
    select date_trunc('minute', now()), d.queue, 0
    from rowcrew.queue_depths d
    where d.sampled_at >= now() - interval '1 hour'
        and not exists (select from rowcrew.jobs j where j.shard = 0 and j.queue = d.queue and j.priority >= 0)
    group by d.queue
    on conflict do nothing
    returning 1
)
select count(*) as rows
from sampled
