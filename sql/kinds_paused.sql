-- Tells a worker which kinds it may not begin now, and for how long.
--
-- Params:  none
-- Returns: kind text, left_ms int8 (null: until somebody resumes it)
-- Locks:   none
-- Plan:    none
select
    k.name as kind,
    -- A time, not a moment: the worker's clock is nobody's concern.
    case when k.paused_until < 'infinity'
        then ceil(extract(epoch from k.paused_until - clock_timestamp()) * 1000)::bigint end as left_ms
from rowcrew.kinds k
where k.paused_until > clock_timestamp()
