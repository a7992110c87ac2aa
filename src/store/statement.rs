//! The statements of SQL handlers: checked before the first job, and run with the rights of their role.

use std::fmt::Write as _;
use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::error::ErrorPosition;
use tokio_postgres::types::Type;

use super::{Error, Store, error};
use crate::SqlStatement;

/// How long a check waits for somebody who changes the tables that the statement names.
const LOCK_WAIT: Duration = Duration::from_secs(3);
/// How much of a statement is quoted from where it is wrong.
const QUOTED_CHARS_MAX: usize = 40;

/// What follows the beginning of a transaction so that the statement has the rights of its role.
pub(super) fn take_role(statement: &SqlStatement) -> String {
    statement.role.as_ref().map_or_else(String::new, |role| format!("; set local role {}", quoted(role)))
}

/// What ends that, before anything else is written in the transaction.
///
/// Deferred constraints are checked first, so that what they run has the role's rights too.
pub(super) fn leave_role(statement: &SqlStatement) -> &'static str {
    match statement.role {
        Some(_) => "set constraints all immediate; set local role to default; ",
        None => "",
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl Store {
    /// Asks the server what it thinks of the statements of these kinds, without running any: one sentence for each
    /// that cannot work.
    pub async fn check_statements(&self, kinds: &[(&str, &SqlStatement)]) -> Result<Vec<String>, Error> {
        if kinds.is_empty() {
            return Ok(Vec::new());
        }
        // As the server makes it: the statement sees the search_path of the worker's role.
        let private = match self.open_bare().await {
            Ok(private) => private,
            // One connection more than a worker keeps: a server that has none left serves its jobs all the same.
            Err(error) if error.is_transient() => {
                tracing::warn!(%error, "no statement of the sql handlers could be checked");
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        let mut faults = Vec::new();
        for (kind, statement) in kinds {
            let limit = self.shared.answer_limit;
            let why = match tokio::time::timeout(limit, check(private.client(), statement)).await {
                Ok(Ok(None)) => continue,
                Ok(Ok(Some(fault))) => {
                    faults.push(format!("handlers.{kind}: {fault}"));
                    continue;
                }
                Ok(Err(source)) => error::describe(&source),
                Err(_) => format!("no answer within {limit:?}"),
            };
            tracing::warn!(
                job.kind = kind,
                error = why,
                "the statement could not be checked; its jobs will show whether it works"
            );
        }
        Ok(faults)
    }
}

/// What is wrong with a statement, in words that follow the handler's name; an error where the server cannot say.
pub(super) async fn check(
    client: &Client,
    statement: &SqlStatement,
) -> Result<Option<String>, tokio_postgres::Error> {
    let wait = LOCK_WAIT.as_millis();
    client
        .batch_execute(&format!(
            "begin; set local lock_timeout = {wait}; set local statement_timeout = 0; \
         set local idle_in_transaction_session_timeout = 0"
        ))
        .await?;
    let checked = in_transaction(client, statement).await;
    client.batch_execute("rollback").await?;
    checked
}

async fn in_transaction(
    client: &Client,
    statement: &SqlStatement,
) -> Result<Option<String>, tokio_postgres::Error> {
    if let Some(role) = &statement.role
        && let Err(source) = client.batch_execute(&format!("set local role {}", quoted(role))).await
    {
        let fault = format!(
            "the worker's user cannot act in the role {role:?}: {}; grant it with: grant {} to the worker's user",
            error::describe(&source),
            quoted(role)
        );
        return is_fault(source, fault);
    }
    // Dropped within the transaction, so that a pooler closes it where it was made.
    match client.prepare_typed(&statement.text, &[Type::JSONB]).await {
        Ok(prepared) if prepared.params().len() > 1 => Ok(Some(format!(
            "the statement takes {} parameters: expected $1, the payload, alone",
            prepared.params().len()
        ))),
        Ok(_) => Ok(None),
        Err(source) => {
            let mut fault = format!("the statement is refused: {}", error::describe(&source));
            if let Some(ErrorPosition::Original(at)) = source.as_db_error().and_then(|db| db.position()) {
                let _ = write!(fault, ", {}", place(&statement.text, *at as usize));
            }
            is_fault(source, fault)
        }
    }
}

/// Only what the server says of the statement itself is a fault of it; the rest is the server's.
fn is_fault(source: tokio_postgres::Error, fault: String) -> Result<Option<String>, tokio_postgres::Error> {
    let Some(code) = source.code() else {
        return Err(source);
    };
    match &code.code()[..2] {
        "08" | "40" | "53" | "55" | "57" | "58" | "XX" => Err(source),
        _ => Ok(Some(fault)),
    }
}

/// The place of a character, counted from 1, and what stands there.
fn place(text: &str, at: usize) -> String {
    let before: String = text.chars().take(at.saturating_sub(1)).collect();
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    let rest = text.chars().skip(at.saturating_sub(1)).take_while(|c| *c != '\n');
    let rest: String = rest.take(QUOTED_CHARS_MAX).collect();
    if rest.is_empty() {
        return format!("at its end (line {line}, column {column})");
    }
    format!("at line {line}, column {column}: {rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_a_fault_is_named_as_an_editor_counts() {
        assert_eq!(place("select ä, nme from t", 11), "at line 1, column 11: nme from t");
        assert_eq!(place("select\n  nme\nfrom t", 10), "at line 2, column 3: nme");
        assert_eq!(place("select", 7), "at its end (line 1, column 7)");
    }

    #[test]
    fn a_role_is_taken_as_one_name() {
        let mut statement = SqlStatement::new("select 1");
        assert_eq!(take_role(&statement), "");
        statement.role = Some("a\"; drop table x; --".to_owned());
        assert_eq!(take_role(&statement), "; set local role \"a\"\"; drop table x; --\"");
    }
}
