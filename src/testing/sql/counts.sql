-- How many jobs ended in which way, and how many have not.
select
    (select count(*) from rowcrew.finished_jobs f where f.state = 'completed') as completed,
    (select count(*) from rowcrew.finished_jobs f where f.state = 'cancelled') as cancelled,
    (select count(*) from rowcrew.dead_jobs) as dead,
    (select count(*) from rowcrew.jobs) as unfinished
