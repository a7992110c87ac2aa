insert into rowcrew.jobs (kind, payload, priority) values
    ('demo.flaky', '{"class": "transient", "times": 1}', 5),
    ('demo.flaky', '{"class": "transient", "times": 2}', 5),
    ('demo.flaky', '{"class": "transient", "times": 2}', 5),
    ('demo.flaky', '{"class": "transient"}', 5),
    ('demo.flaky', '{"class": "permanent"}', 5),
    ('demo.checksum', '{"path": null}', 5)
