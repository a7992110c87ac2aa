-- Reads the state of the tables that every job passes through: dead rows, vacuums, age, sizes, heap-only share.
--
-- Params:  none
-- Returns: tables text (a JSON object)
-- Locks:   none
-- Plan:    none
select json_build_object(
    'name', c.relname,
    'qualified', c.oid::regclass::text,
    'live', coalesce(s.n_live_tup, 0),
    'dead', coalesce(s.n_dead_tup, 0),
    'updates', coalesce(s.n_tup_upd, 0),
    'heap_only', coalesce(s.n_tup_hot_upd, 0),
    'last_autovacuum', greatest(s.last_autovacuum, s.last_vacuum),
    'autovacuum', coalesce((
        select o.option_value::bool from pg_options_to_table(c.reloptions) o where o.option_name = 'autovacuum_enabled'
    ), true),
    'fillfactor', coalesce((
        select o.option_value::int from pg_options_to_table(c.reloptions) o where o.option_name = 'fillfactor'
    ), 100),
    'age', age(c.relfrozenxid),
    'table_bytes', pg_table_size(c.oid),
    'index_bytes', pg_indexes_size(c.oid)
)::text as tables
from pg_namespace n
join pg_class c on c.relnamespace = n.oid and c.relkind = 'r'
left join pg_stat_user_tables s on s.relid = c.oid
where n.nspname = 'rowcrew'
order by c.relname
