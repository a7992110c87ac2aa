select worker from rowcrew.running where worker is not null group by worker order by count(*) desc, worker limit 1
