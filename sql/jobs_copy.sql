-- Takes rows from the client as they come; an import is some of these in one transaction.
--
-- Params:  none
-- Returns: nothing
-- Locks:   the rows it inserts
-- Plan:    none
copy rowcrew.jobs
    (kind, payload, queue, priority, run_at, max_attempts, backoff, timeout, expires_at,
     unique_key, group_key, tags, meta)
from stdin (format binary)
