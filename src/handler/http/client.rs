//! Makes the HTTP client, with TLS that does not depend on what else the process has set up.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::dns::Resolve;
use reqwest::{Client, redirect};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use secrecy::ExposeSecret;

use super::settings::HttpTls;

/// How long connections wait for their next call, as many of them as have run at once: fewer would cost a worker with
/// more slots a handshake for the others each time. Servers hang up after 5 s to 75 s as a rule; a call on a connection that is being closed
/// costs a retry.
const IDLE_FOR: Duration = Duration::from_secs(30);
/// The header fields of a reply at most; in bytes the client stops at about 400 KiB by itself.
const REPLY_HEADERS_MAX: usize = 128;
/// The bytes of a reply's header fields over HTTP/2.
const REPLY_HEADER_BYTES_MAX: u32 = 64 * 1024;

/// A client with its own pool of connections. It follows no redirect and knows no proxy: the signed call goes to
/// the host that was checked or nowhere. Replies are never unpacked, so a small one cannot become a large one.
///
/// `names` looks host names up; without it the client does so as usual, unchecked.
pub(super) fn build(
    tls: &HttpTls,
    connect_timeout: Duration,
    names: Option<Arc<dyn Resolve>>,
) -> Result<Client, String> {
    let mut builder = Client::builder()
        .tls_backend_preconfigured(tls_config(tls)?)
        .redirect(redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .connect_timeout(connect_timeout)
        .pool_idle_timeout(IDLE_FOR)
        .http1_max_headers(REPLY_HEADERS_MAX)
        .http2_max_header_list_size(REPLY_HEADER_BYTES_MAX);
    if let Some(names) = names {
        builder = builder.dns_resolver(names);
    }
    builder.build().map_err(|fault| crate::text::error_chain(&fault))
}

fn tls_config(tls: &HttpTls) -> Result<ClientConfig, String> {
    let roots = match &tls.ca {
        Some(pem) => Arc::new(own_roots(pem)?),
        None => native_roots(),
    };
    // Named, because a process-wide default may be missing or somebody else's.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|fault| fault.to_string())?
        .with_root_certificates(roots);
    let mut config = match &tls.client {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let chain = certificates(chain).map_err(|fault| format!("client_cert_file: {fault}"))?;
            // The reason is left out: it may repeat a line of the key.
            let key = PrivateKeyDer::from_pem_slice(key.expose_secret().as_bytes())
                .map_err(|_| "client_key_file: holds no private key in PEM form".to_owned())?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|fault| format!("client_cert_file and client_key_file: {fault}"))?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|fault| format!("is not in PEM form: {fault}"))?;
    if all.is_empty() { Err("holds no certificate in PEM form".to_owned()) } else { Ok(all) }
}

/// The configured roots, and no others: who names a CA trusts that one.
fn own_roots(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem).map_err(|fault| format!("ca_file: {fault}"))? {
        roots.add(certificate).map_err(|fault| format!("ca_file: {fault}"))?;
    }
    Ok(roots)
}

/// The machine's root certificates, read once: there are over a hundred files of them. May be empty.
fn native_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    ROOTS
        .get_or_init(|| {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            Arc::new(roots)
        })
        .clone()
}

/// Whether https can work at all with the machine's own roots.
pub(super) fn check_native_roots() -> Result<(), String> {
    if native_roots().is_empty() {
        return Err("no root certificates on this machine, and without them no https: \
                    install ca-certificates, or set ca_file or SSL_CERT_FILE"
            .to_owned());
    }
    Ok(())
}
