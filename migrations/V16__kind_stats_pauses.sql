-- Shows the pauses of kinds where people look at kinds: kind_stats has every paused kind, until when and why.
-- Locks: replaces a view; touches no table.

create or replace view rowcrew.kind_stats as
with rates as (
    select
        s.kind,
        coalesce(sum(s.completed) filter (where s.bucket_at >= now() - interval '1 minute'), 0) as done_1m,
        coalesce(sum(s.completed) filter (where s.bucket_at >= now() - interval '5 minutes'), 0) as done_5m,
        sum(s.completed) as done_1h, sum(s.failed) as failed_1h, sum(s.retried) as retried_1h, sum(s.dead) as dead_1h
    from rowcrew.job_stats s
    where s.bucket_at >= now() - interval '1 hour'
    group by s.kind
), latency as (
    select
        l.kind,
        max(l.p50_ms) filter (where l.measure = 'wait') as wait_p50, max(l.p95_ms) filter (where l.measure = 'wait') as wait_p95,
        max(l.p99_ms) filter (where l.measure = 'wait') as wait_p99, max(l.p50_ms) filter (where l.measure = 'run') as run_p50,
        max(l.p95_ms) filter (where l.measure = 'run') as run_p95, max(l.p99_ms) filter (where l.measure = 'run') as run_p99
    from rowcrew.latencies(now() - interval '1 hour') l
    where l.kind is not null and l.queue is null
    group by l.kind
), served as (
    select k.kind, count(*) as workers
    from rowcrew.workers w cross join lateral unnest(w.kinds) as k (kind)
    group by k.kind
)
select
    kind,
    coalesce(s.workers, 0) as workers,
    round(coalesce(r.done_1m, 0) / 60.0, 2) as per_second_1m,
    round(coalesce(r.done_5m, 0) / 300.0, 2) as per_second_5m,
    round(coalesce(r.done_1h, 0) / 3600.0, 2) as per_second_1h,
    coalesce(r.done_1h, 0) as completed_1h, coalesce(r.failed_1h, 0) as failed_1h,
    coalesce(r.retried_1h, 0) as retried_1h, coalesce(r.dead_1h, 0) as dead_1h,
    round(l.wait_p50::numeric, 1) as wait_p50_ms, round(l.wait_p95::numeric, 1) as wait_p95_ms, round(l.wait_p99::numeric, 1) as wait_p99_ms,
    round(l.run_p50::numeric, 1) as run_p50_ms, round(l.run_p95::numeric, 1) as run_p95_ms, round(l.run_p99::numeric, 1) as run_p99_ms,
    p.paused_until, p.disabled_at, p.reason as paused_because
from rates r
full join served s using (kind)
full join (
    select k.name as kind, k.paused_until, k.disabled_at, k.reason from rowcrew.kinds k where k.paused_until > now()
) p using (kind)
left join latency l using (kind);
comment on view rowcrew.kind_stats is
    'Each kind that was run in the last hour, has a live worker or is paused: how many workers serve it, rates, percentiles, until when it is paused (infinity: until resumed) and why.';
