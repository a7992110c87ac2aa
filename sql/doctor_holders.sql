-- Lists who keeps vacuum from removing dead rows: transactions, prepared ones, replication slots and standbys.
--
-- Params:  none
-- Returns: holder text (a JSON object)
-- Locks:   none
-- Plan:    none
select json_build_object('who', held.who, 'what', held.what, 'seconds', held.seconds, 'end_by', held.end_by)::text as holder
from (
    select
        concat_ws(' ', 'session', a.pid, 'of', a.usename, nullif('(' || a.application_name || ')', '()')) as who,
        concat_ws(': ', a.state, left(a.query, 80)) as what,
        extract(epoch from clock_timestamp() - a.xact_start)::float8 as seconds,
        'select pg_terminate_backend(' || a.pid || ')' as end_by
    from pg_stat_activity a
    where a.xact_start is not null and a.pid <> pg_backend_pid() and a.backend_type = 'client backend'
        and (a.backend_xmin is not null or a.backend_xid is not null)
        and a.datname = current_database()
    union all
    select
        'prepared transaction ' || p.gid, 'prepared by ' || p.owner,
        extract(epoch from clock_timestamp() - p.prepared)::float8,
        'rollback prepared ' || quote_literal(p.gid)
    from pg_prepared_xacts p
    where p.database = current_database()
    union all
    select
        'replication slot ' || s.slot_name, case when s.active then 'active' else 'nobody reads it' end,
        null, 'select pg_drop_replication_slot(' || quote_literal(s.slot_name) || ')'
    from pg_replication_slots s
    where s.xmin is not null and age(s.xmin) > 100000
    union all
    select
        'standby ' || coalesce(nullif(r.application_name, ''), r.pid::text), 'a query there, with hot_standby_feedback',
        null, 'end the long query on the standby'
    from pg_stat_replication r
    where r.backend_xmin is not null and age(r.backend_xmin) > 100000
) held
order by held.seconds desc nulls last
