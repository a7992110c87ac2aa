-- Shows everything that is kept of one job, wherever it is.
--
-- Params:  $1 id int8
-- Returns: state text, job text (a JSON object), payload text, result text (both printed for people)
-- Locks:   none
-- Plan:    Index Scan using jobs_pkey, Index Scan using dead_jobs_pkey
select
    kept.state,
    (kept.job - 'shard' || jsonb_build_object('state', kept.state, 'why', rowcrew.why($1)))::text as job,
    jsonb_pretty(kept.job -> 'payload') as payload,
    jsonb_pretty(kept.job -> 'result') as result
from (
    select
        case
            when j.state <> 'available' then j.state
            when j.due_at <= now() then 'available'
            when j.retry_at is not null then 'retrying'
            else 'scheduled'
        end as state,
        to_jsonb(j) as job
    from rowcrew.jobs j
    where j.shard = 0 and j.id = $1
    union all
    select f.state, to_jsonb(f)
    from rowcrew.finished_jobs f
    where f.shard = 0 and f.id = $1
    union all
    select 'dead', to_jsonb(d)
    from rowcrew.dead_jobs d
    where d.shard = 0 and d.id = $1
) kept
limit 1
