-- Workers that start at the same time, on the first day that lacks partitions, no longer get in each other's way: the
-- second waits for the first and finds its work done.
-- Locks: none of tables; replaces the functions make_partitions and drop_partitions.

create or replace function rowcrew.make_partitions(days_ahead integer) returns integer
language plpgsql as $$
declare
    today date := (now() at time zone 'UTC')::date;
    day date;
    part text;
    made integer := 0;
begin
    for day in select today + n from generate_series(0, days_ahead) as n loop
        part := 'finished_jobs_' || to_char(day, 'YYYYMMDD');
        continue when to_regclass(format('%I.%I', 'rowcrew', part)) is not null;
        -- One at a time. Nobody who finishes jobs or reads them waits for this lock, which attaching takes anyway.
        execute format('lock table only %I.finished_jobs in share update exclusive mode', 'rowcrew');
        continue when to_regclass(format('%I.%I', 'rowcrew', part)) is not null;
        -- Made apart and attached: attaching does not stop those who write to the other days.
        execute format(
            'create table %1$I.%2$I (like %1$I.finished_jobs including defaults including constraints)',
            'rowcrew', part
        );
        execute format(
            'comment on table %I.%I is %L', 'rowcrew', part, 'Jobs that finished on ' || day || ' (UTC).'
        );
        -- What ended that day before it had a partition is in the default one, and would refuse this one.
        execute format('lock table %I.finished_jobs_other in access exclusive mode', 'rowcrew');
        execute format(
            'with moved as (
                delete from %1$I.finished_jobs_other where finished_at >= %3$L and finished_at < %4$L returning *
            ) insert into %1$I.%2$I select * from moved',
            'rowcrew', part, day || ' 00:00:00+00', (day + 1) || ' 00:00:00+00'
        );
        execute format(
            'alter table %1$I.finished_jobs attach partition %1$I.%2$I for values from (%3$L) to (%4$L)',
            'rowcrew', part, day || ' 00:00:00+00', (day + 1) || ' 00:00:00+00'
        );
        made := made + 1;
    end loop;
    return made;
end
$$;

create or replace function rowcrew.drop_partitions(keep_days integer) returns integer
language plpgsql set lock_timeout = '500ms' as $$
declare
    oldest date := (now() at time zone 'UTC')::date - keep_days;
    part text;
    dropped integer := 0;
begin
    delete from rowcrew.finished_jobs_other o where o.finished_at < oldest::timestamp at time zone 'UTC';
    for part in
        select c.relname
        from pg_catalog.pg_inherits i
        join pg_catalog.pg_class c on c.oid = i.inhrelid
        where i.inhparent = 'rowcrew.finished_jobs'::regclass
            and c.relname ~ '^finished_jobs_[0-9]{8}$'
            and to_date(right(c.relname, 8), 'YYYYMMDD') < oldest
        order by c.relname
    loop
        begin
            execute format('drop table %I.%I', 'rowcrew', part);
            dropped := dropped + 1;
        exception
            when lock_not_available then
                -- Somebody reads the table, and all who finish jobs would wait behind us: another time.
                exit;
            when undefined_table then
                -- Somebody else has just dropped it.
                null;
        end;
    end loop;
    return dropped;
end
$$;
