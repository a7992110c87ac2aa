-- Lists what this role may not do and the crew must: rights on the schema, its tables, sequences and functions.
--
-- owner: only the owner of finished_jobs can make and drop its partitions.
--
-- Params:  none
-- Returns: lacking text
-- Locks:   none
-- Plan:    none
select 'usage on the schema' as lacking
from pg_namespace n
where n.nspname = 'rowcrew' and not has_schema_privilege(n.oid, 'usage')
union all
select needed.privilege || ' on ' || c.relname
from pg_namespace n
join pg_class c on c.relnamespace = n.oid
join (
    values ('r', 'select'), ('r', 'insert'), ('r', 'update'), ('r', 'delete'),
        ('p', 'select'), ('p', 'insert'), ('p', 'update'), ('p', 'delete'), ('v', 'select')
) as needed (relkind, privilege) on needed.relkind = c.relkind::text
where n.nspname = 'rowcrew' and not c.relispartition and not has_table_privilege(c.oid, needed.privilege)
union all
select needed.privilege || ' on sequence ' || c.relname
from pg_namespace n
join pg_class c on c.relnamespace = n.oid and c.relkind = 'S'
cross join (values ('usage'), ('update')) as needed (privilege)
where n.nspname = 'rowcrew' and not has_sequence_privilege(c.oid, needed.privilege)
union all
select 'execute on function ' || p.proname
from pg_namespace n
join pg_proc p on p.pronamespace = n.oid
where n.nspname = 'rowcrew' and not has_function_privilege(p.oid, 'execute')
union all
select 'owner of ' || c.relname
from pg_namespace n
join pg_class c on c.relnamespace = n.oid and c.relname = 'finished_jobs'
where n.nspname = 'rowcrew' and not pg_has_role(c.relowner, 'usage')
