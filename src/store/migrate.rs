//! Brings the schema to the version this binary has. refinery takes no lock, so we do.

use std::time::Duration;

use refinery::{Migration, Runner};

use super::schema::{in_schema, quote_identifier};
use super::{Error, Private, Store};

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// Pause between looks at the lock. Polled, because a session that waits for a lock holds a snapshot, and
/// an index built concurrently by the holder would wait for that.
const LOCK_POLL: Duration = Duration::from_millis(100);
/// How long another migration may hold the lock.
const LOCK_WAIT: Duration = Duration::from_mins(10);

/// What a migration did.
#[derive(Debug, Clone)]
pub struct Migrated {
    /// The steps applied now, as `V1__jobs`.
    pub applied: Vec<String>,
    /// The version the schema now has.
    pub version: i32,
}

/// The version of the schema that this binary needs.
pub fn schema_version() -> i32 {
    embedded::migrations::runner()
        .get_migrations()
        .iter()
        .map(refinery::Migration::version)
        .max()
        .unwrap_or(0)
}

/// A number for advisory locks of one schema; the same on every machine and in every version.
pub(super) fn lock_key(schema: &str) -> u32 {
    // FNV-1a; the standard hasher may change between releases.
    schema.bytes().fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

impl Store {
    /// Applies what is missing, and sets the limit of the payload; harmless when nothing is missing and when
    /// several do it at once.
    pub async fn migrate(&self, payload_bytes_max: u32) -> Result<Migrated, Error> {
        let private = self.open_private().await?;
        private.check_writable().await?;
        lock(&private, self.schema()).await?;
        let schema = quote_identifier(self.schema());
        private
            .run("create_schema", &format!("create schema if not exists {schema}; set lock_timeout = '5s'"))
            .await?;
        if let Some(found) = version(&private, self.schema()).await?
            && found > schema_version()
        {
            return Err(Error::Newer { schema: self.schema().to_owned(), found, known: schema_version() });
        }
        let mut client = private.into_client();
        let mut runner = Runner::new(&migrations(self.schema())).set_abort_divergent(true);
        runner.set_migration_table_name(format!("{schema}.schema_history"));
        let report = runner
            .run_async(&mut client)
            .await
            .map_err(|error| Error::Migration { reason: crate::text::error_chain(&error) })?;
        limit_payloads(&client, &schema, payload_bytes_max).await?;
        let applied = report.applied_migrations().iter().map(ToString::to_string).collect();
        Ok(Migrated { applied, version: schema_version() })
    }

    /// Says clearly when the database cannot be worked with: not there, not migrated, too new, read-only.
    pub async fn check_ready(&self) -> Result<(), Error> {
        let private = self.open_private().await?;
        let schema = self.schema().to_owned();
        let needed = schema_version();
        match version(&private, &schema).await? {
            None => return Err(Error::NotMigrated { schema }),
            Some(found) if found < needed => return Err(Error::Outdated { schema, found, needed }),
            Some(found) if found > needed => return Err(Error::Newer { schema, found, known: needed }),
            Some(_) => {}
        }
        private.check_writable().await
    }
}

/// The migrations, written for the schema.
fn migrations(schema: &str) -> Vec<Migration> {
    embedded::migrations::runner()
        .get_migrations()
        .iter()
        .map(|step| {
            let name = step.to_string();
            let sql = in_schema(step.sql().unwrap_or_default(), schema);
            Migration::unapplied(&name, &sql).expect("a name that refinery gave itself")
        })
        .collect()
}

async fn version(private: &Private, schema: &str) -> Result<Option<i32>, Error> {
    let read = |source| Error::Statement { statement: "schema_version", source };
    let table = format!("{}.schema_history", quote_identifier(schema));
    let there =
        private.client().query_one("select to_regclass($1) is not null", &[&table]).await.map_err(read)?;
    if !there.get::<_, bool>(0) {
        return Ok(None);
    }
    let row =
        private.client().query_one(&format!("select max(version) from {table}"), &[]).await.map_err(read)?;
    Ok(row.get(0))
}

async fn lock(private: &Private, schema: &str) -> Result<(), Error> {
    // "rowc" in the upper half keeps it apart from the workers' locks.
    let key = (0x726f_7763_i64 << 32) | i64::from(lock_key(schema));
    let began = tokio::time::Instant::now();
    loop {
        let read = |source| Error::Statement { statement: "migration_lock", source };
        let row =
            private.client().query_one("select pg_try_advisory_lock($1)", &[&key]).await.map_err(read)?;
        if row.get(0) {
            return Ok(());
        }
        if began.elapsed() > LOCK_WAIT {
            return Err(Error::Migration {
                reason: format!(
                    "another migration of schema \"{schema}\" has been running for {} s; see pg_stat_activity",
                    LOCK_WAIT.as_secs()
                ),
            });
        }
        tokio::time::sleep(LOCK_POLL).await;
    }
}

/// Puts the configured limit into the constraint, when it is another one than there.
async fn limit_payloads(client: &tokio_postgres::Client, schema: &str, bytes: u32) -> Result<(), Error> {
    let read = |source| Error::Statement { statement: "limit_payloads", source };
    let wanted = format!("pg_column_size(payload) <= {bytes}");
    let row = client
        .query_one(
            "select pg_get_constraintdef(oid) from pg_constraint where conrelid = $1::text::regclass and conname = 'jobs_payload_bytes'",
            &[&format!("{schema}.jobs")],
        )
        .await
        .map_err(read)?;
    if row.get::<_, String>(0).contains(&format!("<= {bytes})")) {
        return Ok(());
    }
    // Not valid: a smaller limit does not judge the jobs that are already there.
    client
        .batch_execute(&format!(
            "begin; alter table {schema}.jobs drop constraint jobs_payload_bytes; \
             alter table {schema}.jobs add constraint jobs_payload_bytes check ({wanted}) not valid; commit"
        ))
        .await
        .map_err(read)
}
