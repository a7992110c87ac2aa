//! What the head of each file under `sql/` says is what the server says.

use rowcrew::store::sql::{Column, Head, Statement, Statements};
use tokio_postgres::types::Type;

use crate::support::Db;

/// A type as headers write it: `int8[]` for what `pg_type` calls `_int8`.
fn written(type_: &Type) -> String {
    match type_.name().strip_prefix('_') {
        Some(element) => format!("{element}[]"),
        None => type_.name().to_owned(),
    }
}

/// Where the server's answer and the header differ.
async fn differences(db: &Db, statement: &Statement) -> Vec<String> {
    let head = Head::of(&statement.text);
    let name = statement.name;
    // Without the types of the head, which are sent at run time: the server must find the same by itself.
    let prepared = match db.client.prepare(&statement.text).await {
        Ok(prepared) => prepared,
        Err(error) => return vec![format!("{name}: {error:?}")],
    };
    let params: Vec<String> = prepared.params().iter().map(written).collect();
    let said: Vec<String> = head.params.iter().map(|param| param.type_name.clone()).collect();
    let columns: Vec<Column> = prepared
        .columns()
        .iter()
        .map(|column| Column { name: column.name().to_owned(), type_name: written(column.type_()) })
        .collect();
    let mut differences = Vec::new();
    if params != said {
        differences.push(format!("{name}: the head says the parameters are {said:?}, the server {params:?}"));
    }
    if columns != head.returns {
        differences
            .push(format!("{name}: the head says it returns {:?}, the server {columns:?}", head.returns));
    }
    differences
}

#[tokio::test]
async fn parameters_and_columns_of_every_statement_are_those_of_its_head() {
    let db = Db::new().await;
    let mut wrong = Vec::new();
    for statement in Statements::new("rowcrew").all() {
        wrong.extend(differences(&db, statement).await);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_head_that_is_wrong_is_noticed() {
    let db = Db::new().await;
    let statement = |text: &str| Statement { name: "planted", text: text.to_owned(), params: Vec::new() };
    let right = statement(
        "-- Params: $1 n int8, $2 ids int8[]\n-- Returns: n int8\nselect $1::int8 as n where 1 = any ($2::int8[])",
    );
    assert!(differences(&db, &right).await.is_empty());
    let types = statement("-- Params: $1 n int4\n-- Returns: n int8\nselect $1::int8 as n");
    let names = statement("-- Params: $1 n int8\n-- Returns: m int8\nselect $1::int8 as n");
    let fewer = statement("-- Params: none\n-- Returns: nothing\nselect 1 as n");
    for wrong in [types, names, fewer] {
        assert_eq!(differences(&db, &wrong).await.len(), 1, "{}", wrong.text);
    }
}

#[test]
fn every_head_has_a_sentence_and_its_four_fields_in_order() {
    for statement in Statements::new("rowcrew").all() {
        let head: Vec<&str> = statement.text.lines().map_while(|line| line.strip_prefix("--")).collect();
        let sentence = head.iter().take_while(|line| !line.trim().is_empty()).copied().collect::<String>();
        let first = sentence.trim().chars().next().unwrap_or(' ');
        assert!(first.is_uppercase(), "{}: no sentence at the top", statement.name);
        assert!(sentence.trim_end().ends_with('.'), "{}: its first sentence has no end", statement.name);
        let fields: Vec<&str> = head
            .iter()
            .filter_map(|line| line.trim().split_once(':'))
            .filter(|(name, rest)| {
                matches!(*name, "Params" | "Returns" | "Locks" | "Plan") && !rest.trim().is_empty()
            })
            .map(|(name, _)| name)
            .collect();
        assert_eq!(fields, ["Params", "Returns", "Locks", "Plan"], "{}", statement.name);
        let widest = statement.text.lines().map(str::len).max().unwrap_or(0);
        assert!(widest <= 130, "{}: a line of {widest} bytes", statement.name);
    }
}
