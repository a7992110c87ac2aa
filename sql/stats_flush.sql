-- Writes what a worker has counted. The figures are those of the whole bucket, so that writing twice is harmless.
--
-- Params:  $1 worker_id int8, $2 stats jsonb (an array of rows of job_stats)
-- Returns: nothing
-- Locks:   the worker's own rows, in order of their key
-- Plan:    none
insert into rowcrew.job_stats
    (bucket_at, queue, kind, worker_id, completed, failed, retried, dead, cancelled, wait_ms, run_ms,
     wait_buckets, wait_counts, run_buckets, run_counts)
select
    s.bucket_at, s.queue, s.kind, $1, s.completed, s.failed, s.retried, s.dead, s.cancelled, s.wait_ms, s.run_ms,
    s.wait_buckets, s.wait_counts, s.run_buckets, s.run_counts
from jsonb_to_recordset($2) as s (
    bucket_at timestamptz, queue text, kind text, completed bigint, failed bigint, retried bigint, dead bigint,
    cancelled bigint, wait_ms double precision, run_ms double precision,
    wait_buckets smallint[], wait_counts bigint[], run_buckets smallint[], run_counts bigint[]
)
order by s.bucket_at, s.queue, s.kind
on conflict on constraint job_stats_pkey do update
set
    completed = excluded.completed, failed = excluded.failed, retried = excluded.retried, dead = excluded.dead,
    cancelled = excluded.cancelled, wait_ms = excluded.wait_ms, run_ms = excluded.run_ms,
    wait_buckets = excluded.wait_buckets, wait_counts = excluded.wait_counts,
    run_buckets = excluded.run_buckets, run_counts = excluded.run_counts
