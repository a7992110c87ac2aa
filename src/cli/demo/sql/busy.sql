select exists (select from pg_stat_activity where application_name = $1 and state = 'active')
