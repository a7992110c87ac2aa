select id, kind, reason, attempts, coalesce(last_error, ''), (payload ->> 'file')::bigint
from rowcrew.dead_jobs
order by id
