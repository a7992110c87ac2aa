select 'job_' || id from rowcrew.finished_jobs where kind = 'demo.notify' and state = 'completed'
