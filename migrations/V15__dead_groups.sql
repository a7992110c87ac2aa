-- Groups dead letters by what went wrong: each failed try now has a fingerprint, and rowcrew.revive takes one.
-- Locks: creates a function and a view; replaces the function revive, which takes one more name.

create function rowcrew.dead_fingerprint(kind text, reason text, errors jsonb) returns text
language sql stable as $$
    select coalesce(
        -- What ended by hand or by time has its last try's failure in its history, but did not die of it.
        case when $2 in ('exhausted', 'permanent', 'crashed') then $3 -> -1 ->> 'fingerprint' end,
        left(encode(sha256(convert_to($1 || e'\n' || $2 || e'\n', 'UTF8')), 'hex'), 12))
$$;
comment on function rowcrew.dead_fingerprint(text, text, jsonb) is
    'What dead jobs are grouped by: the fingerprint of the failure that a job died of; where none is kept, one of its kind and reason.';

create view rowcrew.dead_groups as
select
    rowcrew.dead_fingerprint(d.kind, d.reason, d.errors) as fingerprint,
    count(*) as jobs,
    d.kind,
    d.reason,
    case when d.reason in ('exhausted', 'permanent', 'crashed') then d.errors -> -1 ->> 'class' end as class,
    min(d.died_at) as first_died_at,
    max(d.died_at) as last_died_at,
    (array_agg(left(d.last_error, 500) order by d.died_at desc))[1] as last_error
from rowcrew.dead_jobs d
where d.shard = 0
group by 1, d.kind, d.reason, 5;
comment on view rowcrew.dead_groups is
    'Dead jobs by what went wrong, with the message of the latest: select * from rowcrew.dead_groups order by jobs desc. Revive a group with rowcrew.revive(fingerprint => ''...'').';

-- With one more parameter, last, so that every call of before means what it did.
drop function rowcrew.revive(text, text, text, integer);

create function rowcrew.revive(
    kind text default null, queue text default null, reason text default null, at_most integer default 10000,
    fingerprint text default null
) returns bigint
language plpgsql as $$
declare
    revived bigint;
begin
    if coalesce(revive.kind, revive.queue, revive.reason, revive.fingerprint) is null then
        raise exception 'revive: name a kind, a queue, a reason or a fingerprint' using errcode = '22023',
            hint = 'For example: select rowcrew.revive(kind => ''email.send'');';
    end if;
    revived := rowcrew.revive_rows(array(
        select d.id from rowcrew.dead_jobs d
        where d.shard = 0
            and (revive.kind is null or d.kind = revive.kind)
            and (revive.queue is null or d.queue = revive.queue)
            and (revive.reason is null or d.reason = revive.reason)
            and (revive.fingerprint is null
                or rowcrew.dead_fingerprint(d.kind, d.reason, d.errors) = revive.fingerprint)
            and not exists (
                select from rowcrew.jobs j
                where j.shard = 0 and j.kind = d.kind and j.unique_key = d.unique_key
            )
        order by d.died_at
        limit revive.at_most
    ));
    perform rowcrew.record_event('revive', revived || ' jobs', jsonb_strip_nulls(jsonb_build_object(
        'kind', revive.kind, 'queue', revive.queue, 'reason', revive.reason, 'fingerprint', revive.fingerprint)));
    return revived;
end
$$;
comment on function rowcrew.revive(text, text, text, integer, text) is
    'Puts the dead jobs of a kind, a queue, a reason or a fingerprint back, oldest death first, at most so many; answers how many.';
comment on column rowcrew.jobs.errors is
    'One entry a failed try: attempt, at, worker, class, error, detail, and fingerprint, which failures that differ only in numbers and names share. The last 100 are kept.';
