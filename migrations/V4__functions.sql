-- What people and programs call: enqueue, cancel, revive, bury, pause, resume, purge. Each change writes an event.
-- Locks: creates only; touches nothing that exists.

create function rowcrew.record_event(action text, target text, detail jsonb) returns void
language sql as $$
    insert into rowcrew.events (action, target, detail) values ($1, $2, $3)
$$;
comment on function rowcrew.record_event(text, text, jsonb) is 'Writes down who did what.';

create function rowcrew.count_ended(queue text, kind text, cancelled bigint, dead bigint) returns void
language sql as $$
    insert into rowcrew.job_stats as s (bucket_at, queue, kind, worker_id, cancelled, dead)
    values (date_bin('10 seconds', now(), 'epoch'), $1, $2, 0, $3, $4)
    on conflict on constraint job_stats_pkey do update
    set cancelled = s.cancelled + excluded.cancelled, dead = s.dead + excluded.dead
$$;
comment on function rowcrew.count_ended(text, text, bigint, bigint) is 'Counts jobs that ended without a worker.';

create function rowcrew.enqueue(
    kind text,
    payload jsonb default '{}',
    queue text default null,
    priority integer default null,
    run_at timestamptz default null,
    max_attempts integer default null,
    backoff jsonb default null,
    timeout interval default null,
    expires_at timestamptz default null,
    unique_key text default null,
    group_key text default null,
    tags text[] default null,
    meta jsonb default null
) returns bigint
language plpgsql as $$
#variable_conflict use_column
declare
    job_id bigint;
begin
    loop
        insert into rowcrew.jobs
            (kind, payload, queue, priority, run_at, max_attempts, backoff, timeout, expires_at,
             unique_key, group_key, tags, meta)
        values
            (enqueue.kind, coalesce(enqueue.payload, '{}'), coalesce(enqueue.queue, 'default'),
             coalesce(enqueue.priority, 5), coalesce(enqueue.run_at, now()), enqueue.max_attempts,
             enqueue.backoff, enqueue.timeout, enqueue.expires_at, enqueue.unique_key, enqueue.group_key,
             enqueue.tags, enqueue.meta)
        on conflict (shard, kind, unique_key) where jobs.unique_key is not null do nothing
        returning id into job_id;
        exit when found;
        select j.id into job_id from rowcrew.jobs j
        where j.shard = 0 and j.kind = enqueue.kind and j.unique_key = enqueue.unique_key;
        exit when found;
        -- The job that had the key ended between the two statements: the key is free again.
    end loop;
    return job_id;
end
$$;
comment on function rowcrew.enqueue(text, jsonb, text, integer, timestamptz, integer, jsonb, interval, timestamptz, text, text, text[], jsonb) is
    'Inserts a job and answers its id; with a unique_key that an unfinished job of the kind has, that job''s id.';

create function rowcrew.enqueue_many(jobs jsonb) returns setof bigint
language plpgsql as $$
declare
    unknown text;
begin
    if jsonb_typeof(jobs) is distinct from 'array' then
        raise exception 'enqueue_many takes a JSON array of objects, one for each job' using errcode = '22023';
    end if;
    select string_agg(distinct k, ', ') into unknown
    from jsonb_array_elements(jobs) as e(job), jsonb_object_keys(job) as k
    where k not in ('kind', 'payload', 'queue', 'priority', 'run_at', 'max_attempts', 'backoff', 'timeout',
                    'expires_at', 'unique_key', 'group_key', 'tags', 'meta');
    if unknown is not null then
        raise exception 'enqueue_many: a job has no field %', unknown using errcode = '22023',
            hint = 'Fields are the columns of jobs that a user may set, kind to meta.';
    end if;
    return query
        insert into rowcrew.jobs
            (kind, payload, queue, priority, run_at, max_attempts, backoff, timeout, expires_at,
             unique_key, group_key, tags, meta)
        select
            r.kind, coalesce(r.payload, '{}'), coalesce(r.queue, 'default'), coalesce(r.priority, 5),
            coalesce(r.run_at, now()), r.max_attempts, r.backoff, r.timeout, r.expires_at,
            r.unique_key, r.group_key, r.tags, r.meta
        from jsonb_to_recordset(enqueue_many.jobs) as r (
            kind text, payload jsonb, queue text, priority integer, run_at timestamptz, max_attempts integer,
            backoff jsonb, timeout interval, expires_at timestamptz, unique_key text, group_key text,
            tags text[], meta jsonb
        )
        order by r.kind, r.unique_key
        on conflict do nothing
        returning id;
end
$$;
comment on function rowcrew.enqueue_many(jsonb) is
    'Inserts one job for each object of the array in one statement and answers the ids of those inserted; a job whose unique_key is taken is left out.';

create function rowcrew.cancel(id bigint) returns text
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
    where j.shard = 0 and j.id = cancel.id
    returning j.claimed_by into job;
    if found then
        update rowcrew.workers w set cancels = w.cancels + 1 where w.id = job.claimed_by;
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
comment on function rowcrew.cancel(bigint) is
    'Cancels a job: cancelled (done), cancelling (it runs; its worker stops it), finished or dead (too late), unknown (no such job).';

create function rowcrew.bury(id bigint, reason text default 'buried') returns boolean
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
        update rowcrew.workers w set cancels = w.cancels + 1 where w.id = job.claimed_by;
        perform pg_notify('rowcrew_jobs', 'cancel ' || 'rowcrew');
    end if;
    perform rowcrew.count_ended(job.queue, job.kind, 0, 1);
    perform rowcrew.record_event('bury', 'job ' || bury.id, jsonb_build_object('reason', bury.reason));
    return true;
end
$$;
comment on function rowcrew.bury(bigint, text) is 'Puts an unfinished job among the dead letters by hand; answers whether there was one.';

create function rowcrew.revive_rows(ids bigint[]) returns bigint
language sql as $$
    with picked as materialized (
        select
            d.shard, d.id, d.kind, d.payload, d.queue, d.priority, d.max_attempts, d.backoff, d.timeout, d.expires_at,
            d.unique_key, d.group_key, d.tags, d.meta, d.last_error, d.errors, d.created_at
        from rowcrew.dead_jobs d
        where d.shard = 0 and d.id = any ($1)
        order by d.id
        for update
    ), inserted as (
        insert into rowcrew.jobs
            (shard, id, kind, payload, queue, priority, run_at, max_attempts, backoff, timeout, expires_at, unique_key,
             group_key, tags, meta, last_error, errors, created_at)
        select
            r.shard, r.id, r.kind, r.payload, r.queue, r.priority, now(), r.max_attempts, r.backoff, r.timeout,
            case when r.expires_at > now() then r.expires_at end, r.unique_key,
            r.group_key, r.tags, r.meta, r.last_error, r.errors, r.created_at
        from picked r
        -- Another unfinished job may have taken the unique_key: that one stays, and this one stays dead.
        on conflict do nothing
        returning id
    ), gone as (
        delete from rowcrew.dead_jobs d
        where d.shard = 0 and d.id = any (array(select i.id from inserted i))
        returning 1
    )
    select count(*) from gone
$$;
comment on function rowcrew.revive_rows(bigint[]) is
    'Puts dead jobs back to run at once with all their tries; keeps their history of errors. A past expires_at is dropped. A job whose unique_key is taken by now stays dead.';

create function rowcrew.revive(id bigint) returns boolean
language plpgsql as $$
begin
    if rowcrew.revive_rows(array[revive.id]) = 0 then
        return false;
    end if;
    perform rowcrew.record_event('revive', 'job ' || revive.id, null);
    return true;
end
$$;
comment on function rowcrew.revive(bigint) is 'Puts a dead job back to run at once with all its tries; answers whether there was one.';

create function rowcrew.revive(
    kind text default null, queue text default null, reason text default null, at_most integer default 10000
) returns bigint
language plpgsql as $$
declare
    revived bigint;
begin
    if coalesce(revive.kind, revive.queue, revive.reason) is null then
        raise exception 'revive: name a kind, a queue or a reason' using errcode = '22023',
            hint = 'For example: select rowcrew.revive(kind => ''email.send'');';
    end if;
    revived := rowcrew.revive_rows(array(
        select d.id from rowcrew.dead_jobs d
        where d.shard = 0
            and (revive.kind is null or d.kind = revive.kind)
            and (revive.queue is null or d.queue = revive.queue)
            and (revive.reason is null or d.reason = revive.reason)
            and not exists (
                select from rowcrew.jobs j
                where j.shard = 0 and j.kind = d.kind and j.unique_key = d.unique_key
            )
        order by d.died_at
        limit revive.at_most
    ));
    perform rowcrew.record_event('revive', revived || ' jobs', jsonb_strip_nulls(jsonb_build_object(
        'kind', revive.kind, 'queue', revive.queue, 'reason', revive.reason)));
    return revived;
end
$$;
comment on function rowcrew.revive(text, text, text, integer) is
    'Puts the dead jobs of a kind, a queue or a reason back, oldest death first, at most so many; answers how many.';

create function rowcrew.pause(queue text, until timestamptz default null) returns void
language plpgsql as $$
begin
    insert into rowcrew.queues as q (name, paused_until) values (pause.queue, coalesce(pause.until, 'infinity'))
    on conflict (name) do update set paused_until = excluded.paused_until, updated_at = now();
    perform rowcrew.record_event('pause', 'queue ' || pause.queue, jsonb_strip_nulls(jsonb_build_object('until', pause.until)));
end
$$;
comment on function rowcrew.pause(text, timestamptz) is 'No more jobs of the queue are claimed, until that moment or until it is resumed; those running go on.';

create function rowcrew.resume(queue text) returns boolean
language plpgsql as $$
begin
    update rowcrew.queues q set paused_until = null, updated_at = now()
    where q.name = resume.queue and q.paused_until > now();
    if not found then
        return false;
    end if;
    perform pg_notify('rowcrew_jobs', 'wake ' || 'rowcrew');
    perform rowcrew.record_event('resume', 'queue ' || resume.queue, null);
    return true;
end
$$;
comment on function rowcrew.resume(text) is 'Ends a pause; answers whether there was one.';

create function rowcrew.purge(queue text, at_most integer default 100000) returns bigint
language plpgsql as $$
declare
    purged bigint;
begin
    with picked as (
        select j.id from rowcrew.jobs j
        where j.shard = 0 and j.queue = purge.queue and j.state <> 'running'
        order by j.id
        limit purge.at_most
        for update skip locked
    ), gone as (
        delete from rowcrew.jobs j where j.shard = 0 and j.id = any (array(select p.id from picked p))
        returning j.kind
    ), counted as (
        select g.kind, count(*) as jobs from gone g group by g.kind
    )
    select sum(c.jobs) into purged
    from counted c, lateral rowcrew.count_ended(purge.queue, c.kind, c.jobs, 0);
    perform rowcrew.record_event('purge', 'queue ' || purge.queue, jsonb_build_object('jobs', coalesce(purged, 0)));
    return coalesce(purged, 0);
end
$$;
comment on function rowcrew.purge(text, integer) is
    'Deletes jobs of the queue that are not running, without a trace but the count; at most so many at a time. Answers how many.';
