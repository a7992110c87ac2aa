-- The payloads of the unfinished jobs of a kind, the oldest first.
select j.payload
from rowcrew.jobs j
where j.kind = $1
order by j.id
