-- A job of a kind that no worker can run now, because its processes do not come up, says so instead of waiting for its
-- turn.
-- Locks: workers, for a moment; a column with a constant default rewrites nothing. Replaces the view blocked and the
-- function why, each for a moment.

alter table rowcrew.workers add column kinds_down text[] not null default '{}';

comment on column rowcrew.workers.kinds_down is
    'Those of its kinds that it could run no job of at its last beat, because none of their processes was up.';

create or replace view rowcrew.blocked as
select j.id, j.kind, j.queue, j.created_at, rowcrew_why.reason
from rowcrew.jobs j
cross join lateral (
    select case
        when j.state = 'waiting' then 'waits for other jobs'
        when j.due_at = 'infinity' then 'parked: run_at is infinity'
        when exists (select from rowcrew.queues q where q.name = j.queue and q.paused_until > now())
            then 'its queue is paused'
        when exists (select from rowcrew.kinds k where k.name = j.kind and k.paused_until > now())
            then 'its kind is paused'
        when not exists (select from rowcrew.workers w where j.kind = any (w.kinds) and j.queue = any (w.queues))
            then 'no live worker serves its kind in its queue'
        when not exists (
            select from rowcrew.workers w
            where j.kind = any (w.kinds) and j.queue = any (w.queues) and not (j.kind = any (w.kinds_down))
        ) then 'no worker can run its kind now'
    end as reason
) rowcrew_why
where j.shard = 0 and j.state <> 'running' and rowcrew_why.reason is not null;

create or replace function rowcrew.why(id bigint) returns text
language plpgsql stable as $$
declare
    job record;
    paused timestamptz;
    kind_paused text;
    ahead bigint;
begin
    select j.* into job from rowcrew.jobs j where j.shard = 0 and j.id = why.id;
    if not found then
        select 'Job ' || s.id || ' is ' || s.state || ' since ' || s.ended_at ||
            case when s.state = 'dead' then ': ' || coalesce(s.last_error, 'no error recorded') else '' end || '.'
        into job from rowcrew.job_status s where s.id = why.id;
        if found then
            return job."?column?";
        end if;
        return 'There is no job ' || why.id || ': it never was, or its time to be kept is over.';
    end if;
    if job.state = 'running' then
        return format('Job %s runs since %s in worker %s (attempt %s)%s.', job.id, job.claimed_at,
            coalesce((select w.name || ', id ' || w.id from rowcrew.workers w where w.id = job.claimed_by),
                job.claimed_by || ', which is lost; its jobs will be given back'),
            job.attempts, case when job.cancel_requested_at is not null then '; its cancellation was asked for' else '' end);
    elsif job.state = 'waiting' then
        return format('Job %s waits for other jobs.', job.id);
    elsif job.due_at = 'infinity' then
        return format('Job %s is parked: its run_at is infinity. Set run_at to run it.', job.id);
    end if;
    kind_paused := rowcrew.kind_pause(job.kind);
    if job.due_at > now() and job.retry_at is not null and kind_paused is not null then
        return format('Job %s waits until %s, and its kind %s is %s.', job.id, job.retry_at, job.kind, kind_paused);
    elsif job.due_at > now() and job.retry_at is not null and job.attempts = 0 then
        return format('Job %s was put off until %s%s', job.id, job.retry_at, coalesce(': ' || job.last_error, '.'));
    elsif job.due_at > now() and job.retry_at is not null then
        return format('Job %s failed and is tried again at %s: %s', job.id, job.retry_at, job.last_error);
    elsif job.due_at > now() then
        return format('Job %s is scheduled for %s.', job.id, job.run_at);
    end if;
    select q.paused_until into paused from rowcrew.queues q where q.name = job.queue and q.paused_until > now();
    if found then
        return format('Job %s is due, but its queue %s is paused %s.', job.id, job.queue,
            case when paused = 'infinity' then 'until somebody resumes it' else 'until ' || paused end);
    elsif kind_paused is not null then
        return format('Job %s is due, but its kind %s is %s.', job.id, job.kind, kind_paused);
    elsif not exists (select from rowcrew.workers) then
        return format('Job %s is due, but no worker is alive. Start one: rowcrew work.', job.id);
    elsif not exists (select from rowcrew.workers w where job.kind = any (w.kinds)) then
        return format('Job %s is due, but no live worker serves kind %s. It waits until one does.', job.id, job.kind);
    elsif not exists (select from rowcrew.workers w where job.kind = any (w.kinds) and job.queue = any (w.queues)) then
        return format('Job %s is due, but no live worker that serves kind %s serves queue %s.', job.id, job.kind, job.queue);
    elsif not exists (
        select from rowcrew.workers w
        where job.kind = any (w.kinds) and job.queue = any (w.queues) and not (job.kind = any (w.kinds_down))
    ) then
        return format('Job %s is due, but no worker can run its kind %s now: no process of it is up. The log of %s says why.',
            job.id, job.kind, (
                select string_agg(w.name || ' (id ' || w.id || ')', ', ' order by w.id)
                from rowcrew.workers w
                where job.kind = any (w.kinds) and job.queue = any (w.queues)
            ));
    end if;
    select count(*) into ahead from (
        select from rowcrew.jobs j
        where j.shard = 0 and j.queue = job.queue and j.priority >= 0 and j.state = 'available'
            and (j.priority, j.due_at, j.id) < (job.priority, job.due_at, job.id)
        limit 10000
    ) before;
    return format('Job %s is due since %s and waits its turn: %s jobs of queue %s come before it.', job.id, job.due_at,
        case when ahead = 10000 then '10000 or more' else ahead::text end, job.queue);
end
$$;
