-- Reads what a doctor must know of the server: version, durability, clock, connections, notices, checkpoints.
--
-- Params:  none
-- Returns: facts text (a JSON object)
-- Locks:   none
-- Plan:    none
select json_build_object(
    'version', current_setting('server_version'),
    'version_num', current_setting('server_version_num')::int,
    'database', current_database(),
    'role', current_user,
    'local', inet_server_addr() is null or inet_server_addr() << inet '127.0.0.0/8' or inet_server_addr() = inet '::1',
    'fsync', current_setting('fsync') = 'on',
    'full_page_writes', current_setting('full_page_writes') = 'on',
    -- The server's, not this session's: the crew takes it as it is.
    'synchronous_commit', current_setting('synchronous_commit'),
    'autovacuum', current_setting('autovacuum') = 'on' and current_setting('track_counts') = 'on',
    'now_micros', (extract(epoch from clock_timestamp()) * 1000000)::bigint,
    'max_connections', current_setting('max_connections')::int,
    'connections', (select count(*) from pg_stat_activity a where a.backend_type = 'client backend'),
    'notify_usage', pg_notification_queue_usage(),
    'freeze_max_age', current_setting('autovacuum_freeze_max_age')::bigint,
    'shared_buffers_bytes', pg_size_bytes(current_setting('shared_buffers')),
    'max_wal_bytes', pg_size_bytes(current_setting('max_wal_size')),
    'wal_compression', current_setting('wal_compression') <> 'off',
    'database_bytes', pg_database_size(current_database())
)::text as facts
