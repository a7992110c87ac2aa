-- Says whether this server takes writes: it is no standby, and its configuration does not make it read-only.
--
-- A default of read-only that comes from the role or the database is not the server's word: see session_read_write.
-- reset_val: what the session would have without that setting of ours.
--
-- Params:  none
-- Returns: writable bool
-- Locks:   none
-- Plan:    none
select
    not pg_is_in_recovery()
    and (
        coalesce((
            select s.reset_val
            from pg_catalog.pg_settings s
            where s.name = 'default_transaction_read_only'
        ), 'off') = 'off'
        or exists (
            select
            from pg_catalog.pg_db_role_setting own
            where own.setrole in (0, (select r.oid from pg_catalog.pg_roles r where r.rolname = session_user))
                and own.setdatabase in (
                    0, (select d.oid from pg_catalog.pg_database d where d.datname = current_database())
                )
                and array_to_string(own.setconfig, ' ') like '%default_transaction_read_only=%'
        )
    ) as writable
