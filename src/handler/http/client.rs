//! Makes the HTTP client, with TLS that does not depend on what else the process has set up.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::{Client, redirect};
use rustls::{ClientConfig, RootCertStore};

/// How long a connection may take to stand, name look-up included. An attempt's own time limit is often minutes:
/// with that alone a host that swallows packets would hold a slot for as long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A client with its own pool of connections. It follows no redirect and knows no proxy: the signed call goes to
/// the configured host or nowhere.
pub(super) fn build(tls: bool) -> Result<Client, String> {
    let roots = if tls { native_roots()? } else { Arc::new(RootCertStore::empty()) };
    Client::builder()
        .tls_backend_preconfigured(tls_config(roots)?)
        .redirect(redirect::Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .build()
        .map_err(|fault| crate::text::error_chain(&fault))
}

fn tls_config(roots: Arc<RootCertStore>) -> Result<ClientConfig, String> {
    // Named, because a process-wide default may be missing or somebody else's.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|fault| fault.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// The machine's root certificates, read once: there are over a hundred files of them.
fn native_roots() -> Result<Arc<RootCertStore>, String> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    });
    if roots.is_empty() {
        return Err("no root certificates on this machine, and without them no https: \
                    install ca-certificates or set SSL_CERT_FILE"
            .to_owned());
    }
    Ok(roots.clone())
}
