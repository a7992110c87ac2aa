-- Lists the kinds that are paused, have a live worker, or were run in the last hour.
--
-- Params:  none
-- Returns: kind text (a JSON object)
-- Locks:   none
-- Plan:    Index Scan using job_stats_pkey
select row_to_json(listed)::text as kind
from (
    select
        coalesce(s.kind, k.name) as kind,
        case when k.disabled_at is not null then 'disabled' when k.name is not null then 'paused' else 'open' end as state,
        k.paused_until, k.disabled_at, k.reason, k.paused_by,
        coalesce(s.workers, 0) as workers, coalesce(s.per_second_1m, 0) as per_second_1m,
        coalesce(s.completed_1h, 0) as completed_1h, coalesce(s.failed_1h, 0) as failed_1h, coalesce(s.dead_1h, 0) as dead_1h
    from rowcrew.kind_stats s
    full join (
        select p.name, p.paused_until, p.disabled_at, p.reason, p.paused_by
        from rowcrew.kinds p
        where p.paused_until > now()
    ) k on k.name = s.kind
    order by 1
) listed
