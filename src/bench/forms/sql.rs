//! The SQL of the forms. Claims take the same four parameters and answer the same four columns, finishes take
//! the same three, so that one loop drives them all.

use tokio_postgres::types::Type;

use super::form::{Claim, Finish, Form, Indexes};

/// `$1` and `$2` place the cursor, `$3` is the size of the batch, `$4` its number.
pub(super) const CLAIM_PARAMS: [Type; 4] = [Type::TEXT, Type::INT8, Type::INT8, Type::INT8];
/// `$1` ids, `$2` places, `$3` the number of the batch.
pub(super) const FINISH_PARAMS: [Type; 3] = [Type::INT8_ARRAY, Type::TEXT_ARRAY, Type::INT8];

/// The rows due, from the cursor on; locked, unless the form needs no lock.
const DUE: &str = "
    from forms.jobs due
    where due.shard = 0 and due.queue = 'default' and due.priority = 5
        and (due.due_at, due.id) > ($1::timestamptz, $2) and due.due_at <= now()
        and due.state = 'available'
    order by due.due_at, due.id
    limit $3
    for update skip locked";

const SET: &str =
    "state = 'running', attempts = j.attempts + 1, claimed_by = 1, claim_id = $4, claimed_at = now()";

/// Columns of a claim's answer, from the row `j`.
const ANSWER: &str = "j.id, j.payload::text as payload, j.due_at::text as due_at, j.ctid::text as place";

/// Columns of a job that are worth moving.
const COLUMNS: &str = "id, kind, payload, queue, priority, run_at, attempts, claim_id, created_at";

/// Makes the tables.
pub(super) fn tables(form: &Form) -> String {
    let indexes = match form.indexes {
        Indexes::KeyAndReady => [PRIMARY_KEY, READY].concat(),
        Indexes::KeyAndPartial => [PRIMARY_KEY, READY_PARTIAL].concat(),
        Indexes::ReadyOnly => READY.to_owned(),
        Indexes::Three => [PRIMARY_KEY, READY, THIRD].concat(),
    };
    format!(
        "drop schema if exists forms cascade;
        create schema forms;
        create table forms.jobs (
            like rowcrew.jobs including defaults including generated including identity including constraints
        ) with (fillfactor = {}, autovacuum_enabled = false);
        {indexes}
        create table forms.flying (like forms.jobs including defaults including generated, primary key (id));
        create table forms.finished (like forms.jobs including defaults including generated, primary key (id));
        create table forms.batches (batch bigint primary key, jobs forms.jobs[] not null);
        create table forms.claims (batch bigint primary key, ids bigint[] not null);
        create table forms.frontier (due_at timestamptz not null, id bigint not null);
        insert into forms.frontier values ('-infinity', 0)",
        form.fillfactor
    )
}

const PRIMARY_KEY: &str = "alter table forms.jobs add primary key (id, shard);";
const READY: &str = "create index on forms.jobs (shard, queue, priority, due_at, id) where priority >= 0;";
const READY_PARTIAL: &str =
    "create index on forms.jobs (shard, queue, priority, due_at, id) where state = 'available';";
const THIRD: &str = "create index on forms.jobs (kind, created_at);";

/// Puts jobs in: `$1` what their payloads are padded with, `$2` how many.
pub(super) const FILL: &str = "
    insert into forms.jobs (kind, payload)
    select 'noop', jsonb_build_object('n', n, 'pad', $1::text) from generate_series(1, $2::int8) n";

/// How many updates there were, and how many of them touched no index.
pub(super) const UPDATES: &str = "
    select n_tup_upd, n_tup_hot_upd from pg_stat_user_tables where relid = 'forms.jobs'::regclass";

/// The processor time that this session has used at the server, in hundredths of a second. Linux and superusers
/// only.
pub(super) const PROCESSOR_TIME: &str = "
    select split_part(s.rest, ' ', 12)::int8 + split_part(s.rest, ' ', 13)::int8
    from (select split_part(pg_read_file('/proc/self/stat'), ') ', 2) as rest) s";

/// Takes a batch.
pub(super) fn claim(form: &Form) -> String {
    let claimed = match form.claim {
        Claim::UpdateByPlace => {
            format!(
                "update forms.jobs j set {SET} where j.ctid = any (array(select due.ctid {DUE})) \
                 and j.state = 'available' returning {ANSWER}"
            )
        }
        Claim::UpdateById => format!(
            "update forms.jobs j set {SET} where j.shard = 0 and j.id = any (array(select due.id {DUE})) \
             and j.state = 'available' returning {ANSWER}"
        ),
        Claim::UpdateByJoin => format!(
            "update forms.jobs j set {SET} from (select due.shard, due.id {DUE}) p \
             where j.shard = p.shard and j.id = p.id returning {ANSWER}"
        ),
        Claim::Hold => format!("select {} {DUE}", ANSWER.replace("j.", "due.")),
        Claim::MoveEach => format!(
            "with gone as (delete from forms.jobs j where j.ctid = any (array(select due.ctid {DUE})) returning j.*), \
             flying as (insert into forms.flying ({COLUMNS}) select {COLUMNS} from gone) \
             select j.id, j.payload::text as payload, j.due_at::text as due_at, '(0,0)' as place from gone j"
        ),
        Claim::MoveBatch => format!(
            "with gone as (delete from forms.jobs j where j.ctid = any (array(select due.ctid {DUE})) returning j.*), \
             flying as (insert into forms.batches (batch, jobs) \
                select $4, array_agg(row(gone.*)::forms.jobs) from gone having count(*) > 0) \
             select j.id, j.payload::text as payload, j.due_at::text as due_at, '(0,0)' as place from gone j"
        ),
        Claim::NoteOnly => return NOTE_ONLY.replace("{due}", &DUE.replace("for update skip locked", "")),
    };
    let recorded =
        "insert into forms.claims (batch, ids) select $4, array_agg(c.id) from claimed c having count(*) > 0";
    let waits = "select set_config('synchronous_commit', 'off', true)";
    match (form.recorded, form.durable_claim) {
        (false, true) => claimed,
        (false, false) => {
            format!("with claimed as ({claimed}) select c.* from claimed c where ({waits}) <> ''")
        }
        (true, true) => {
            format!("with claimed as ({claimed}), recorded as ({recorded}) select c.* from claimed c")
        }
        (true, false) => format!(
            "with claimed as ({claimed}), recorded as ({recorded}) select c.* from claimed c where ({waits}) <> ''"
        ),
    }
}

/// Sessions take turns at the frontier, so that no row need be marked: what lies before it is taken.
const NOTE_ONLY: &str = "
    with front as materialized (
        select f.due_at, f.id from forms.frontier f for update
    ),
    picked as materialized (
        select due.id, due.payload::text as payload, due.due_at, due.ctid::text as place
        from front
        cross join lateral (
            select due.id, due.payload, due.due_at, due.ctid
            from forms.jobs due
            where due.shard = 0 and due.queue = 'default' and due.priority = 5
                and (due.due_at, due.id) > (front.due_at, front.id) and due.due_at <= now()
            order by due.due_at, due.id
            limit $3
        ) as due
    ),
    moved as (
        update forms.frontier f
        set (due_at, id) = (select p.due_at, p.id from picked p order by p.due_at desc, p.id desc limit 1)
        where exists (select from picked)
    ),
    recorded as (
        insert into forms.claims (batch, ids) select $4, array_agg(p.id) from picked p having count(*) > 0
    )
    select p.id, p.payload, p.due_at::text as due_at, p.place from picked p";

/// Ends a batch; fenced by its number, as the engine's is by claim ids.
pub(super) fn finish(form: &Form) -> String {
    let by_id = "j.shard = 0 and j.id = any ($1)";
    let by_place = "j.ctid = any ($2::tid[]) and j.id = any ($1)";
    let running = "and j.claim_id = $3 and j.state = 'running'";
    let emptied = "emptied as (delete from forms.claims c where c.batch = $3 returning 1)";
    match (form.claim, form.finish) {
        (Claim::MoveEach, _) => "delete from forms.flying j where j.id = any ($1)".to_owned(),
        (Claim::MoveBatch, _) => "delete from forms.batches b where b.batch = $3".to_owned(),
        (Claim::Hold, _) => format!("delete from forms.jobs j where {by_id}"),
        (Claim::NoteOnly, _) => {
            format!("with {emptied} delete from forms.jobs j where {by_id} and exists (select from emptied)")
        }
        (_, Finish::ById) => format!("with {emptied} delete from forms.jobs j where {by_id} {running}"),
        (_, Finish::ByPlace) => format!("with {emptied} delete from forms.jobs j where {by_place} {running}"),
        (_, Finish::Keep) => format!(
            "with {emptied}, removed as (delete from forms.jobs j where {by_id} {running} returning j.*) \
             insert into forms.finished ({COLUMNS}) select {COLUMNS} from removed"
        ),
    }
}
