with ended as (
    select kind, attempts, true as completed, claimed_at, finished_at as ended_at from rowcrew.finished_jobs
    union all
    select kind, attempts, false, claimed_at, died_at from rowcrew.dead_jobs
)
select
    kind, count(*) as jobs, count(*) filter (where completed) as completed,
    count(*) filter (where not completed) as dead, sum(attempts - 1)::bigint as more_tries,
    count(*) / greatest(extract(epoch from max(ended_at) - min(claimed_at)), 0.001)::float8 as per_second
from ended
group by grouping sets ((kind), ())
order by kind nulls last
