-- Lets this session write where its role's or its database's default is read-only.
--
-- Only there: a server that is set to read-only by its own configuration has been demoted, and what is sent to it must
-- fail at once.
--
-- Params:  none
-- Returns: set_config text
-- Locks:   none
-- Plan:    none
select set_config('default_transaction_read_only', 'off', false)
where exists (
    select
    from pg_catalog.pg_db_role_setting own
    where own.setrole in (0, (select r.oid from pg_catalog.pg_roles r where r.rolname = session_user))
        and own.setdatabase in (
            0, (select d.oid from pg_catalog.pg_database d where d.datname = current_database())
        )
        and array_to_string(own.setconfig, ' ') like '%default_transaction_read_only=%'
)
