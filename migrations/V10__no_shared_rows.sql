-- What is done to one job locks no row that others need: one who cancels a job and leaves the transaction open held up
-- everybody who cancelled another of its kind, and the beat of the job's worker, which was then taken for lost.
-- Locks: replaces three functions; touches no table but its comments.

create or replace function rowcrew.count_ended(queue text, kind text, cancelled bigint, dead bigint) returns void
language sql as $$
    -- A row for each session: one for all would stay locked until its writer commits.
    insert into rowcrew.job_stats as s (bucket_at, queue, kind, worker_id, cancelled, dead)
    values (date_bin('10 seconds', now(), 'epoch'), $1, $2, -pg_backend_pid(), $3, $4)
    on conflict on constraint job_stats_pkey do update
    set cancelled = s.cancelled + excluded.cancelled, dead = s.dead + excluded.dead
$$;

create or replace function rowcrew.cancel(id bigint) returns text
language plpgsql as $$
declare
    job record;
begin
    delete from rowcrew.jobs j where j.shard = 0 and j.id = cancel.id and j.state <> 'running' returning j.* into job;
    if found then
        insert into rowcrew.finished_jobs
            (shard, id, kind, payload, queue, priority, run_at, max_attempts, unique_key, group_key, tags, meta,
             state, attempts, crashes, claimed_by, claimed_at, last_error, errors, created_at)
        values
            (job.shard, job.id, job.kind, job.payload, job.queue, job.priority, job.run_at, job.max_attempts,
             job.unique_key, job.group_key, job.tags, job.meta, 'cancelled', job.attempts, job.crashes,
             job.claimed_by, job.claimed_at, job.last_error, job.errors, job.created_at);
        perform rowcrew.count_ended(job.queue, job.kind, 1, 0);
        perform rowcrew.record_event('cancel', 'job ' || cancel.id, null);
        return 'cancelled';
    end if;
    update rowcrew.jobs j set cancel_requested_at = coalesce(j.cancel_requested_at, now())
    where j.shard = 0 and j.id = cancel.id;
    if found then
        perform pg_notify('rowcrew_jobs', 'cancel ' || 'rowcrew');
        perform rowcrew.record_event('cancel', 'job ' || cancel.id, '{"running": true}');
        return 'cancelling';
    end if;
    if exists (select from rowcrew.finished_jobs f where f.shard = 0 and f.id = cancel.id) then
        return 'finished';
    elsif exists (select from rowcrew.dead_jobs d where d.shard = 0 and d.id = cancel.id) then
        return 'dead';
    end if;
    return 'unknown';
end
$$;

create or replace function rowcrew.bury(id bigint, reason text default 'buried') returns boolean
language plpgsql as $$
declare
    job record;
begin
    delete from rowcrew.jobs j where j.shard = 0 and j.id = bury.id returning j.* into job;
    if not found then
        return false;
    end if;
    insert into rowcrew.dead_jobs
        (shard, id, kind, payload, queue, priority, run_at, max_attempts, backoff, timeout, expires_at, unique_key,
         group_key, tags, meta, attempts, crashes, retry_at, claimed_by, claim_id, claimed_at, progress, last_error,
         errors, created_at, reason)
    values
        (job.shard, job.id, job.kind, job.payload, job.queue, job.priority, job.run_at, job.max_attempts, job.backoff,
         job.timeout, job.expires_at, job.unique_key, job.group_key, job.tags, job.meta, job.attempts, job.crashes,
         job.retry_at, job.claimed_by, job.claim_id, job.claimed_at, job.progress, job.last_error, job.errors,
         job.created_at, bury.reason);
    if job.state = 'running' then
        perform pg_notify('rowcrew_jobs', 'cancel ' || 'rowcrew');
    end if;
    perform rowcrew.count_ended(job.queue, job.kind, 0, 1);
    perform rowcrew.record_event('bury', 'job ' || bury.id, jsonb_build_object('reason', bury.reason));
    return true;
end
$$;

comment on column rowcrew.job_stats.worker_id is
    'Who counted; 0: minutes summed over all; negative: SQL functions, one number for each session.';
comment on column rowcrew.workers.cancels is
    'Not used any more. Workers hear of cancellations by notice, and look at what they hold every few beats.';
