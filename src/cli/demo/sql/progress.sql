select
    (select count(*) from rowcrew.finished_jobs) + (select count(*) from rowcrew.dead_jobs),
    (select count(*) from rowcrew.jobs),
    (select count(*) from rowcrew.workers where locked_at is not null)
