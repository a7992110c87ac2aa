-- Makes a scheduled or retrying job due now, and revives a dead one; answers due, revived, or why not.
--
-- Params:  $1 id int8
-- Returns: outcome text (due, revived, taken, available, running, waiting, finished, unknown)
-- Locks:   the one row
-- Plan:    Index Scan using jobs_pkey, Index Only Scan using dead_jobs_pkey
with due as (
    update rowcrew.jobs j
    set
        run_at = case when j.retry_at is null then now() else j.run_at end,
        retry_at = case when j.retry_at is not null then now() end
    where j.shard = 0 and j.id = $1 and j.state = 'available' and j.due_at > now()
    returning j.id
),
told as (
    select
        rowcrew.record_event('retry', 'job ' || d.id, null) as noted,
        pg_notify('rowcrew_jobs', 'wake ' || 'rowcrew') as rung
    from due d
)
select case
    when (select count(*) from told) > 0 then 'due'
    else coalesce(
        (select j.state from rowcrew.jobs j where j.shard = 0 and j.id = $1),
        (
            select case when rowcrew.revive(id => d.id) then 'revived' else 'taken' end
            from rowcrew.dead_jobs d
            where d.shard = 0 and d.id = $1
        ),
        (select 'finished' from rowcrew.finished_jobs f where f.shard = 0 and f.id = $1 limit 1),
        'unknown'
    )
end as outcome
