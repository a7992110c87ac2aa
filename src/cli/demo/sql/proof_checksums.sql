select (payload ->> 'file')::bigint, result ->> 'sha256' from rowcrew.finished_jobs
where kind = 'demo.checksum' and state = 'completed'
