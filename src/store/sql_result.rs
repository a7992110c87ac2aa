//! What a SQL handler's statement answered, as a job's result.

use std::pin::pin;

use chrono::{DateTime, NaiveDate, NaiveDateTime, SecondsFormat, Utc};
use futures_util::TryStreamExt;
use serde_json::json;
use tokio_postgres::types::{FromSql, Type};
use tokio_postgres::{Row, RowStream};

use super::time::JsonText;
use crate::storable::storable;

/// Reads all rows; answers `{"rows": n, "first": {..}}` as JSON text, or with `truncated`, `bytes` and `text` in place of
/// a first row that is larger than so many bytes.
pub(super) async fn result_of(stream: RowStream, bytes_max: usize) -> Result<String, tokio_postgres::Error> {
    let mut stream = pin!(stream);
    let mut first = None;
    let mut rows = 0_u64;
    while let Some(row) = stream.try_next().await? {
        rows += 1;
        first.get_or_insert_with(|| object_of(&row));
    }
    let rows = stream.rows_affected().unwrap_or(rows);
    Ok(match first {
        None => json!({ "rows": rows, "first": null }).to_string(),
        Some(first) if first.len() <= bytes_max => format!(r#"{{"rows": {rows}, "first": {first}}}"#),
        Some(first) => {
            let beginning = &first[..first.floor_char_boundary(bytes_max)];
            json!({ "rows": rows, "truncated": true, "bytes": first.len(), "text": beginning }).to_string()
        }
    })
}

/// A row as the text of a JSON object.
fn object_of(row: &Row) -> String {
    let fields = row.columns().iter().enumerate().map(|(at, column)| {
        let value = value_of(row, at, column.type_()).unwrap_or_else(|| "null".to_owned());
        format!("{}: {value}", json!(column.name()))
    });
    format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
}

/// A field as JSON text; none if it is null, or of a type that has no JSON of its own.
fn value_of(row: &Row, at: usize, type_: &Type) -> Option<String> {
    fn get<'a, T: FromSql<'a>>(row: &'a Row, at: usize) -> Option<T> {
        row.try_get::<_, Option<T>>(at).ok().flatten()
    }
    let value = match *type_ {
        Type::BOOL => json!(get::<bool>(row, at)?),
        Type::INT2 => json!(get::<i16>(row, at)?),
        Type::INT4 => json!(get::<i32>(row, at)?),
        Type::INT8 => json!(get::<i64>(row, at)?),
        Type::OID => json!(get::<u32>(row, at)?),
        Type::FLOAT4 => json!(get::<f32>(row, at)?),
        Type::FLOAT8 => json!(get::<f64>(row, at)?),
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME => json!(get::<&str>(row, at)?),
        Type::TIMESTAMPTZ => {
            json!(get::<DateTime<Utc>>(row, at)?.to_rfc3339_opts(SecondsFormat::AutoSi, true))
        }
        Type::TIMESTAMP => json!(get::<NaiveDateTime>(row, at)?),
        Type::DATE => json!(get::<NaiveDate>(row, at)?),
        Type::UUID => json!(get::<Uuid>(row, at)?.0),
        Type::JSON | Type::JSONB => {
            let JsonText(json) = get(row, at)?;
            // What is fine as json may be refused as jsonb.
            return Some(storable(json).map_or_else(|| json!(json).to_string(), str::to_owned));
        }
        _ => return None,
    };
    Some(value.to_string())
}

/// A `uuid` in the usual form.
struct Uuid(String);

impl<'a> FromSql<'a> for Uuid {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        let hex = format!("{:032x}", u128::from_be_bytes(raw.try_into()?));
        Ok(Self([0..8, 8..12, 12..16, 16..20, 20..32].map(|part| &hex[part]).join("-")))
    }

    fn accepts(type_: &Type) -> bool {
        *type_ == Type::UUID
    }
}
