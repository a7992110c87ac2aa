-- Reads how long the first due job of each queue has waited, and which due kinds nobody serves.
--
-- limit (select ...): not knowing the number, the planner goes by the index and stops early. Behind 2,000
-- running jobs at the head of a priority nothing is seen; then the queue moves.
--
-- Params:  none
-- Returns: queues text (a JSON object)
-- Locks:   none
-- Plan:    Index Scan using jobs_pkey, Index Only Scan using jobs_ready
with recursive named (queue) as (
    (select j.queue from rowcrew.jobs j where j.shard = 0 and j.priority >= 0 order by j.queue limit 1)
    union all
    select (
        select j.queue from rowcrew.jobs j
        where j.shard = 0 and j.queue > n.queue and j.priority >= 0
        order by j.queue limit 1
    )
    from named n
    where n.queue is not null
),
heads as (
    select n.queue, min(head.due_at) as due_at
    from named n
    cross join generate_series(0, 9) as p (priority)
    cross join lateral (
        select j.due_at, j.state
        from rowcrew.jobs j
        where j.shard = 0 and j.queue = n.queue and j.priority = p.priority and j.priority >= 0
            and j.due_at <= now()
        order by j.due_at, j.id
        limit (select 2000)
    ) as head
    where n.queue is not null and head.state = 'available'
    group by n.queue
),
unserved as (
    select look.kind, count(*) as jobs
    from (
        select j.kind, j.state, j.due_at
        from rowcrew.jobs j
        where j.shard = 0
        order by j.id
        limit (select 20000)
    ) look
    where look.state = 'available' and look.due_at <= now()
        and not exists (select from rowcrew.workers w where look.kind = any (w.kinds))
    group by look.kind
)
select json_build_object(
    'workers', (select count(*) from rowcrew.workers),
    'silent', (select count(*) from rowcrew.workers w where w.beat_at < now() - interval '30 seconds'),
    'paused', coalesce((
        select json_agg(q.name order by q.name) from rowcrew.queues q where q.paused_until > now()
    ), '[]'),
    'heads', coalesce((
        select json_agg(json_build_object(
            'queue', h.queue, 'seconds', extract(epoch from now() - h.due_at)::float8,
            'paused', exists (select from rowcrew.queues q where q.name = h.queue and q.paused_until > now()),
            'workers', (select count(*) from rowcrew.workers w where h.queue = any (w.queues))
        ) order by h.queue)
        from heads h
    ), '[]'),
    'unserved', coalesce((
        select json_agg(json_build_object('kind', u.kind, 'jobs', u.jobs) order by u.kind) from unserved u
    ), '[]')
)::text as queues
