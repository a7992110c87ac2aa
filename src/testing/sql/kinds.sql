-- The kinds of all unfinished jobs, with how many there are of each.
select j.kind || ' (' || count(*) || ')'
from rowcrew.jobs j
group by j.kind
order by j.kind
