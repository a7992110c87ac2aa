select id, kind, state, 1000 * extract(epoch from ended_at - greatest(created_at, due_at))::float8
from rowcrew.job_status
where id > $1 and ended_at is not null
order by id
