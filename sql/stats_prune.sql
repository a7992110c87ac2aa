-- Drops statistics, counts of depth and events past their time.
--
-- Params:  $1 keep_days int4
-- Returns: rows int8
-- Locks:   the rows it deletes
-- Plan:    none
with stats as (
    delete from rowcrew.job_stats s
    where s.bucket_at < now() - $1::integer * interval '1 day'
    returning 1
),
depths as (
    delete from rowcrew.queue_depths d
    where d.sampled_at < now() - $1::integer * interval '1 day'
    returning 1
),
noted as (
    delete from rowcrew.events e
    where e.at < now() - $1::integer * interval '1 day'
    returning 1
)
select (select count(*) from stats) + (select count(*) from depths) + (select count(*) from noted) as rows
