select count(*) from rowcrew.finished_jobs where kind = 'demo.flaky' and state = 'completed' and attempts > 1
