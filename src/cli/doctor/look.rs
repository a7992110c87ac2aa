//! Asks the database, one question after the other; what cannot be asked is a finding itself.

use std::time::Duration;

use super::{Finding, checks};
use crate::store::{self, Error, Load, ServerFacts, Store, TableFacts};

/// From when on something is worth a warning, and what is configured.
pub(super) struct Limits {
    pub(super) late: Duration,
    pub(super) long: Duration,
    /// Whether statements are prepared under a name.
    pub(super) prepare: bool,
}

/// What was seen, for proposals.
pub(super) struct Sight {
    pub(super) server: ServerFacts,
    pub(super) tables: Vec<TableFacts>,
    pub(super) load: Load,
}

/// All findings in order; and what was seen, if everything could be asked.
#[derive(Default)]
pub(super) struct Report {
    pub(super) findings: Vec<Finding>,
    pub(super) sight: Option<Sight>,
}

pub(super) async fn report(store: &Store, limits: &Limits) -> Report {
    let mut report = Report::default();
    if let Err(error) = examine(store, limits, &mut report).await {
        report.findings.push(checks::unreachable(&error));
    }
    report
}

async fn examine(store: &Store, limits: &Limits, report: &mut Report) -> Result<(), Error> {
    let private = store.open_private().await?;
    let server = private.store.server_facts().await?;
    let mut add = |found: Vec<Finding>| report.findings.extend(found);
    add(vec![checks::version(&server)]);
    if let Err(error) = store.check_ready().await {
        add(vec![checks::not_ready(&error)]);
        return Ok(());
    }
    add(vec![Finding::ok(
        "schema",
        format!("\"{}\" is at version {}", store.schema(), store::schema_version()),
    )]);
    let asked = &private.store;
    let rights = asked.lacking_rights().await?;
    add(vec![checks::rights(&server, &rights)]);
    if rights.iter().any(|right| right.starts_with("select") || right.starts_with("usage on the")) {
        return Ok(());
    }
    add(vec![checks::pooler(store.is_pooled().await, store.is_direct_pooled().await, limits.prepare)]);
    add(checks::server(&server));
    add(checks::holders(&asked.holders().await?, limits.long));
    let tables = asked.table_facts().await?;
    add(checks::tables(&server, &tables));
    add(checks::indexes(&asked.bad_indexes().await?));
    add(checks::queues(&asked.queue_facts().await?, limits.late));
    report.sight = Some(Sight { server, tables, load: asked.load().await? });
    Ok(())
}
