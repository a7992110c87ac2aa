-- Lists the workers of the crew.
--
-- Params:  none
-- Returns: worker text (a JSON object)
-- Locks:   none
-- Plan:    none
select row_to_json(listed)::text as worker
from (
    select
        w.id, w.name, w.pid, w.version, w.state, w.running, w.concurrency, w.blocking, w.queues, w.kinds, w.kinds_down,
        w.started_at, w.beat_at, round(extract(epoch from clock_timestamp() - w.beat_at), 1) as beat_age_seconds
    from rowcrew.workers w
    order by w.id
) listed
