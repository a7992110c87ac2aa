//! Opens connections, each within a limit: tokio-postgres itself limits only the TCP handshake, and a
//! server that was stopped with a signal accepts and then says nothing.

use std::time::Duration;

use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Connection, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::Error;
use super::tls::{TlsError, tls_connector};
use super::url::ServerUrl;

/// The encrypted stream under a [`ServerConnection`].
pub type ServerStream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;
/// A connection that does nothing until it is driven, with `await` or, to hear notifications, `poll_message`.
pub type ServerConnection = Connection<Socket, ServerStream>;
/// What statements are sent with while a [`ServerConnection`] is driven.
pub type ServerClient = Client;

/// Why a connection was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Network, TLS handshake, login; the cause says which.
    #[error("cannot connect to Postgres")]
    Postgres(#[from] tokio_postgres::Error),
    /// No answer from any host.
    #[error("cannot connect to Postgres: no session after {} ms", .0.as_millis())]
    Timeout(Duration),
}

/// Opens connections to one [`ServerUrl`]; certificates are read once, when it is made.
#[derive(Clone)]
pub struct Connector {
    config: Config,
    tls: MakeRustlsConnect,
    deadline: Duration,
}

impl Connector {
    /// Reads the certificates. `connect_timeout` is for one address unless the text has its own.
    pub fn new(url: &ServerUrl, connect_timeout: Duration) -> Result<Self, TlsError> {
        let config = url.config(connect_timeout);
        let each = *config.get_connect_timeout().unwrap_or(&connect_timeout);
        // One more than there are hosts, because a name often has two addresses.
        let addresses = config.get_hosts().len() as u32 + 1;
        Ok(Self { tls: tls_connector(url)?, deadline: each * addresses, config })
    }

    /// For `deadpool_postgres::Manager::from_config`, together with [`Connector::tls`].
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The TLS side, which cancelling a query needs too.
    pub fn tls(&self) -> MakeRustlsConnect {
        self.tls.clone()
    }

    /// Opens one connection; the caller drives it.
    pub async fn connect(&self) -> Result<(Client, ServerConnection), ConnectError> {
        match tokio::time::timeout(self.deadline, self.config.connect(self.tls())).await {
            Ok(outcome) => Ok(outcome?),
            Err(_) => Err(ConnectError::Timeout(self.deadline)),
        }
    }
}

/// The store's word for it.
pub(super) fn connect_error(server: &str, error: ConnectError) -> Error {
    match error {
        ConnectError::Postgres(source) => Error::Connect { server: server.to_owned(), source },
        other @ ConnectError::Timeout(_) => {
            Error::Pool { server: server.to_owned(), reason: other.to_string(), source: None }
        }
    }
}
