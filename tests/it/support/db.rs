//! A database of one's own, with short ways to ask it.

use std::time::Duration;

use tokio_postgres::types::FromSqlOwned;
use tokio_postgres::{Client, Row};

use super::server::{admin_url, connect, make_database};

/// How long a test waits for something that must happen; far beyond what it takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// One test's database. Left behind at the end: the whole server goes.
pub(crate) struct Db {
    pub name: String,
    pub url: String,
    pub client: Client,
}

impl Db {
    /// A database that is migrated.
    pub(crate) async fn new() -> Self {
        Self::open(make_database(true).await).await
    }

    /// A database with nothing in it.
    pub(crate) async fn empty() -> Self {
        Self::open(make_database(false).await).await
    }

    async fn open(name: String) -> Self {
        let url = admin_url(&name);
        Self { client: connect(&url).await, name, url }
    }

    /// The database at this URL.
    pub(crate) async fn at(url: String) -> Self {
        Self { client: connect(&url).await, name: "postgres".to_owned(), url }
    }

    /// A connection to another database of the same server.
    pub(crate) async fn outside(&self) -> Client {
        connect(&admin_url("postgres")).await
    }

    /// Connects anew, after the server was away.
    pub(crate) async fn reconnect(&mut self) {
        self.client = connect(&self.url).await;
    }

    /// One more connection to it.
    pub(crate) async fn connect(&self) -> Client {
        connect(&self.url).await
    }

    /// Runs SQL that answers nothing.
    pub(crate) async fn exec(&self, sql: &str) {
        if let Err(error) = self.client.batch_execute(sql).await {
            panic!("{sql}: {error:?}");
        }
    }

    /// The SQLSTATE and the constraint that refuse this SQL.
    pub(crate) async fn refusal(&self, sql: &str) -> (String, Option<String>) {
        let error = self.client.batch_execute(sql).await.expect_err(sql);
        let error = error.as_db_error().expect("an answer of the server");
        (error.code().code().to_owned(), error.constraint().map(str::to_owned))
    }

    /// The first column of the only row.
    pub(crate) async fn one<T: FromSqlOwned>(&self, sql: &str) -> T {
        self.client.query_one(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}")).get(0)
    }

    /// The first column of all rows.
    pub(crate) async fn all<T: FromSqlOwned>(&self, sql: &str) -> Vec<T> {
        self.rows(sql).await.iter().map(|row| row.get(0)).collect()
    }

    /// All rows.
    pub(crate) async fn rows(&self, sql: &str) -> Vec<Row> {
        self.client.query(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"))
    }

    /// Waits until the query's only value is true; fails with what the jobs look like if it never is.
    pub(crate) async fn until(&self, condition: &str) {
        let began = std::time::Instant::now();
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        while !self.one::<Option<bool>>(&format!("select ({condition})")).await.unwrap_or(false) {
            if began.elapsed() > PATIENCE {
                let jobs: Option<String> = self
                    .one("select string_agg(format('%s %s %s attempts %s: %s', id, kind, state, attempts, last_error), e'\\n') from (select * from rowcrew.job_status limit 20) j")
                    .await;
                panic!("never became true: {condition}\n{}", jobs.unwrap_or_default());
            }
            ticks.tick().await;
        }
    }

    /// Inserts a job with plain SQL and answers its id.
    pub(crate) async fn insert(&self, kind: &str, payload: &str) -> i64 {
        self.one(&format!(
            "insert into rowcrew.jobs (kind, payload) values ('{kind}', '{payload}') returning id"
        ))
        .await
    }

    /// Inserts many jobs of a kind in one statement; `n` counts from 1 in the payload's SQL. Answers their ids.
    pub(crate) async fn insert_many(&self, kind: &str, payload: &str, count: u32) -> Vec<i64> {
        self.all(&format!(
            "insert into rowcrew.jobs (kind, payload) select '{kind}', {payload} from generate_series(1, {count}) n returning id"
        ))
        .await
    }

    /// Waits until a job is in this state.
    pub(crate) async fn until_state(&self, id: i64, state: &str) {
        self.until(&format!("exists (select from rowcrew.job_status where id = {id} and state = '{state}')"))
            .await;
    }

    /// The state of a job in the words of `job_status`; "unknown" when there is no trace of it.
    pub(crate) async fn state(&self, id: i64) -> String {
        self.one(&format!(
            "select coalesce((select state from rowcrew.job_status where id = {id}), 'unknown')"
        ))
        .await
    }
}
