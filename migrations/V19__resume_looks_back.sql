-- The jobs of a queue that was paused stand before the places that workers have reached: a resume says so.
create or replace function rowcrew.resume(queue text) returns boolean
language plpgsql as $$
begin
    update rowcrew.queues q set paused_until = null, updated_at = now()
    where q.name = resume.queue and q.paused_until > now();
    if not found then
        return false;
    end if;
    perform pg_notify('rowcrew_jobs', 'back ' || 'rowcrew');
    perform rowcrew.record_event('resume', 'queue ' || resume.queue, null);
    return true;
end
$$;
