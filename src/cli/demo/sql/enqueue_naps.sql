insert into rowcrew.jobs (kind, payload, priority) select 'demo.nap', '{"ms": 1500}', 0 from generate_series(1, 4)
