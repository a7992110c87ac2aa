-- Whether a job that these kinds and queues can run is running or due.
select exists (
    select from rowcrew.jobs j
    where j.state = 'running'
        or (j.state = 'available' and j.due_at <= now() and j.kind = any ($1::text[]) and j.queue = any ($2::text[]))
)
