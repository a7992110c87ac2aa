insert into rowcrew.jobs (kind, payload)
select 'demo.record', file::jsonb from unnest($1::text[]) as file
