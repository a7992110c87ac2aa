//! Connections that remember: LISTEN, session locks, migrations. They go to `direct_url`, past any pooler.

use std::sync::Arc;

use futures_util::future::poll_fn;
use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, Client};

use super::connect::{ServerConnection, connect_error};
use super::session::session_settings;
use super::{Error, NO_LIMIT, Store, Via};

/// The one channel; each notice names the schema it is for.
const CHANNEL: &str = "rowcrew_jobs";

/// What a listening connection hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// There may be jobs to claim.
    Wake,
    /// Jobs were given back: they may stand before those that were claimed last.
    Back,
    /// A running job shall be cancelled.
    Cancel,
    /// A kind was paused or resumed.
    Kinds,
}

/// One connection of one's own.
pub struct Private {
    /// The database through this connection.
    pub store: Store,
    client: Arc<Client>,
    notices: mpsc::UnboundedReceiver<Notice>,
}

impl Store {
    /// Opens a private connection, driven by a task on the caller's runtime.
    pub async fn open_private(&self) -> Result<Private, Error> {
        let private = self.open_bare().await?;
        if self.has_sessions() {
            let read_write = &self.statements.session_read_write.text;
            let settings = session_settings(self.shared.settings.statement_timeout, NO_LIMIT, read_write);
            private.run("session_settings", &settings).await?;
        }
        Ok(private)
    }

    /// As the server makes it, without settings of ours.
    pub(super) async fn open_bare(&self) -> Result<Private, Error> {
        let server = self.shared.settings.direct_url.redacted();
        let (client, connection) =
            call!("connect", self.shared.direct.connect()).map_err(|error| connect_error(&server, error))?;
        let (heard, notices) = mpsc::unbounded_channel();
        tokio::spawn(drive(connection, heard, self.schema().to_owned()));
        let client = Arc::new(client);
        let store = Self { via: Via::Private(client.clone()), ..self.clone() };
        Ok(Private { store, client, notices })
    }
}

impl Private {
    /// Hears notices from now on; never any where sessions are not kept.
    pub async fn listen(&self) -> Result<(), Error> {
        if !self.store.has_sessions() {
            return Ok(());
        }
        self.run("listen", &format!("listen {CHANNEL}")).await
    }

    /// Holds a shared advisory lock as long as the connection lives; the server frees it when it ends.
    ///
    /// Where sessions are not kept it takes none: it would outlive us.
    pub async fn hold_lock(&self, key: i64) -> Result<(), Error> {
        if !self.store.has_sessions() {
            return Ok(());
        }
        self.run("hold_lock", &format!("select pg_advisory_lock_shared({key})")).await
    }

    /// Waits for the next notice; `None` when the connection has ended.
    pub async fn next_notice(&mut self) -> Option<Notice> {
        self.notices.recv().await
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Whether the server takes writes; one that does not is none to stay with.
    pub async fn check_writable(&self) -> Result<(), Error> {
        let row = self.store.query_one(&self.store.statements.server_writable, &[]).await?;
        if row.get(0) {
            self.store.seen();
            return Ok(());
        }
        let error = Error::ReadOnly { server: self.store.shared.settings.direct_url.redacted() };
        self.store.note(&error);
        Err(error)
    }

    /// The driver's client, for migrations and for handlers' own SQL.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Takes the connection apart; it lives as long as the client.
    pub(super) fn into_client(self) -> Client {
        drop(self.store);
        Arc::into_inner(self.client).expect("nobody else holds the client of a private connection")
    }

    /// Sends commands that take no parameters and answer nothing.
    pub(super) async fn run(&self, statement: &'static str, text: &str) -> Result<(), Error> {
        let limit = self.store.shared.answer_limit;
        let work = async { call!(statement, self.client.batch_execute(text)) };
        match tokio::time::timeout(limit, work).await {
            Ok(outcome) => outcome.map_err(|source| Error::Statement { statement, source }),
            Err(_) => Err(Error::NoAnswer { statement, seconds: limit.as_secs() }),
        }
    }
}

/// Moves the connection's bytes until it ends, and passes on what is said to this schema.
async fn drive(mut connection: ServerConnection, heard: mpsc::UnboundedSender<Notice>, schema: String) {
    while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
        match message {
            Ok(AsyncMessage::Notification(note)) if note.channel() == CHANNEL => {
                let notice = match note.payload().split_once(' ') {
                    Some(("wake", to)) if to == schema => Notice::Wake,
                    Some(("back", to)) if to == schema => Notice::Back,
                    Some(("cancel", to)) if to == schema => Notice::Cancel,
                    Some(("kinds", to)) if to == schema => Notice::Kinds,
                    _ => continue,
                };
                // Nobody listening any more is no reason to stop driving.
                let _ = heard.send(notice);
            }
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(error = %crate::text::error_chain(&error), "a private connection to the database ended");
                return;
            }
        }
    }
}
