-- How many unfinished jobs of a kind have a payload that contains this.
select count(*)
from rowcrew.jobs j
where j.kind = $1 and j.payload @> $2::jsonb
