//! Looks, before the first job is claimed, for what would make every job of a kind fail.

use futures_util::future::join_all;

use crate::handler::{Registry, Runner};
use crate::store::{Error, Store};

/// Checks all handlers, and reports all faults at once.
pub(super) async fn handlers(store: &Store, registry: &Registry) -> Result<(), Error> {
    let mut statements = Vec::new();
    let mut others = Vec::new();
    for (kind, entry) in registry.iter() {
        match &entry.runner {
            Runner::Sql(statement) => statements.push((&**kind, &**statement)),
            Runner::Handler(handler) => others.push(async move {
                handler.check().await.err().map(|fault| format!("handlers.{kind}: {fault}"))
            }),
            Runner::Blocking(_) => {}
        }
    }
    let mut faults = store.check_statements(&statements).await?;
    faults.extend(join_all(others).await.into_iter().flatten());
    if faults.is_empty() { Ok(()) } else { Err(Error::Handlers { faults }) }
}
