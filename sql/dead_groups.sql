-- Groups dead jobs by what went wrong, the largest group first, among the 100,000 latest; with the message of the
-- latest death of each. The view dead_groups does the same for all.
--
-- limit (select ...): not knowing the number, the planner goes by the index and stops early, whatever it
-- takes the table for.
--
-- Params:  $1 kind text, $2 queue text, $3 reason text, $4 fingerprint text, $5 at_most int8
-- Returns: dead_group text (a JSON object)
-- Locks:   none
-- Plan:    Index Scan Backward using dead_jobs_died
select row_to_json(grouped)::text as dead_group
from (
    select
        look.fingerprint, count(*) as jobs, look.kind, look.reason, look.class,
        min(look.died_at) as first_died_at, max(look.died_at) as last_died_at,
        (array_agg(look.last_error order by look.died_at desc))[1] as last_error
    from (
        select
            d.kind, d.queue, d.reason, d.died_at, left(d.last_error, 500) as last_error,
            rowcrew.dead_fingerprint(d.kind, d.reason, d.errors) as fingerprint,
            case when d.reason in ('exhausted', 'permanent', 'crashed') then d.errors -> -1 ->> 'class' end as class
        from rowcrew.dead_jobs d
        where d.shard = 0
        order by d.died_at desc
        limit (select 100000)
    ) look
    where ($1::text is null or look.kind = $1) and ($2::text is null or look.queue = $2)
        and ($3::text is null or look.reason = $3) and ($4::text is null or look.fingerprint = $4)
    group by look.fingerprint, look.kind, look.reason, look.class
    order by jobs desc, last_died_at desc
    limit $5
) grouped
