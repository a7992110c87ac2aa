-- Lists indexes that serve nobody, and those on columns that a claim changes, which make every claim dearer.
--
-- Params:  none
-- Returns: index text (a JSON object)
-- Locks:   none
-- Plan:    none
select json_build_object(
    'name', i.oid::regclass::text, 'table', t.relname, 'invalid', not x.indisvalid, 'hot', hot.columns
)::text as index
from pg_namespace n
join pg_class t on t.relnamespace = n.oid
join pg_index x on x.indrelid = t.oid
join pg_class i on i.oid = x.indexrelid
cross join lateral (
    -- Keys, expressions and predicates alike.
    select string_agg(distinct a.attname, ', ') as columns
    from pg_depend d
    join pg_attribute a on a.attrelid = t.oid and a.attnum = d.refobjsubid
    where d.classid = 'pg_catalog.pg_class'::regclass and d.objid = i.oid and d.refobjid = t.oid
        and t.relname = 'jobs' and a.attname in ('state', 'attempts', 'claimed_by', 'claim_id', 'claimed_at')
) hot
where n.nspname = 'rowcrew' and (not x.indisvalid or hot.columns is not null)
order by i.relname
