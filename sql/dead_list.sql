-- Lists dead jobs, the latest death first, among the 100,000 latest.
--
-- limit (select ...): not knowing the number, the planner goes by the index and stops early, whatever it
-- takes the table for.
--
-- Params:  $1 kind text, $2 queue text, $3 reason text, $4 at_most int8, $5 fingerprint text
-- Returns: job text (a JSON object)
-- Locks:   none
-- Plan:    Index Scan Backward using dead_jobs_died
select row_to_json(look)::text as job
from (
    select
        d.id, d.kind, d.queue, d.reason, d.attempts, d.crashes, d.died_at, d.created_at, d.unique_key,
        d.group_key, d.tags, d.last_error, rowcrew.dead_fingerprint(d.kind, d.reason, d.errors) as fingerprint
    from rowcrew.dead_jobs d
    where d.shard = 0
    order by d.died_at desc
    limit (select 100000)
) look
where ($1::text is null or look.kind = $1) and ($2::text is null or look.queue = $2) and ($3::text is null or look.reason = $3)
    and ($5::text is null or look.fingerprint = $5)
order by look.died_at desc
limit $4
