-- What became of one job.
select s.state, s.attempts, s.result, s.last_error
from rowcrew.job_status s
where s.id = $1
