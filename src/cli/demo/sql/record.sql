with recorded as (
    insert into demo.ledger (file, path) values (($1 ->> 'file')::bigint, $1 ->> 'path')
)
insert into rowcrew.jobs (kind, payload, priority)
select 'demo.checksum', $1, 2
union all
select 'demo.notify', $1, 2 where $1 ? 'notify'
