//! Everything that knows Postgres; the floors above speak of jobs, not of rows.

mod connect;
#[cfg(test)]
mod test_server;
mod tls;
mod url;

pub use connect::{ConnectError, Connector, ServerConnection, ServerStream};
pub use tls::{TlsError, tls_connector};
pub use url::{
    APPLICATION_NAME, KEEPALIVES_IDLE, KEEPALIVES_INTERVAL, KEEPALIVES_RETRIES, Roots, ServerUrl, SslMode,
    TCP_USER_TIMEOUT, UrlError,
};
