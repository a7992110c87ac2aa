//! Decides which certificates count, by libpq's rules
//! (<https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-SSLMODE-STATEMENTS>).
//!
//! rustls alone knows only the strictest of them. Its provider is named here, never taken from or put into
//! the process: a library must not decide that for the program it is part of.
//!
//! Narrower than libpq in three ways: certificates have to be X.509 version 3, a host name is looked for in
//! the certificate's alternative names and never in its common name, and a key file must not be encrypted.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::url::{Roots, ServerUrl, SslMode};

/// The application protocol a server asks for when TLS starts without Postgres' own question first.
const ALPN: &[u8] = b"postgresql";

/// Why there is no TLS to be had, whatever the server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file is missing, unreadable, or not PEM.
    #[error("{parameter}: cannot read {}", path.display())]
    File {
        /// Which of `sslrootcert`, `sslcert`, `sslkey` names it.
        parameter: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system or the PEM reader says.
        source: pem::Error,
    },
    /// A file holds no certificate that can be used.
    #[error("{parameter}: no certificate in {}", path.display())]
    Empty {
        /// Which parameter names it.
        parameter: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// The operating system names no authorities.
    #[error("no trusted certificates found on this system; name a file with sslrootcert ({0})")]
    NoSystemRoots(String),
    /// `sslkey` does not belong to `sslcert`, or its kind is not supported.
    #[error("sslcert and sslkey cannot be used")]
    Identity(#[source] Error),
    /// The TLS library refuses its own defaults.
    #[error("cannot set up TLS")]
    Setup(#[source] Error),
}

/// Makes the TLS side of connections to the server; reads the certificate files.
///
/// Whether TLS is used at all is for the `ssl_mode` of the [`Config`](tokio_postgres::Config) to say; without
/// it the connector is never asked. `allow`, `prefer` and `require` without `sslrootcert` take any certificate:
/// they keep out who listens, not who answers in the server's place.
pub fn tls_connector(url: &ServerUrl) -> Result<MakeRustlsConnect, TlsError> {
    client_config(url).map(MakeRustlsConnect::new)
}

fn client_config(url: &ServerUrl) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(Verifier {
        trust: url.roots().filter(|_| url.uses_tls()).map(Trust::load).transpose()?,
        names_host: url.ssl_mode() == SslMode::VerifyFull,
        algorithms: provider.signature_verification_algorithms,
    });
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match url.identity().filter(|_| url.uses_tls()) {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates("sslcert", certificate)?;
            let file_error = |source| TlsError::File { parameter: "sslkey", path: key.clone(), source };
            let key = PrivateKeyDer::from_pem_file(key).map_err(file_error)?;
            builder.with_client_auth_cert(chain, key).map_err(TlsError::Identity)?
        }
    };
    if url.negotiates_directly() {
        config.alpn_protocols = vec![ALPN.to_vec()];
    }
    Ok(config)
}

fn certificates(parameter: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(std::iter::Iterator::collect);
    match found {
        Err(source) => Err(TlsError::File { parameter, path: path.to_owned(), source }),
        Ok(none) if none.is_empty() => Err(TlsError::Empty { parameter, path: path.to_owned() }),
        Ok(some) => Ok(some),
    }
}

/// Who may vouch for a server.
#[derive(Debug)]
struct Trust {
    authorities: RootCertStore,
    /// Certificates trusted as such, if they come from a file.
    pinned: Vec<CertificateDer<'static>>,
}

impl Trust {
    fn load(roots: &Roots) -> Result<Self, TlsError> {
        let mut authorities = RootCertStore::empty();
        match roots {
            Roots::System => {
                let found = rustls_native_certs::load_native_certs();
                authorities.add_parsable_certificates(found.certs);
                if authorities.is_empty() {
                    let why: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
                    return Err(TlsError::NoSystemRoots(why.join("; ")));
                }
                Ok(Self { authorities, pinned: Vec::new() })
            }
            Roots::File(path) => {
                let pinned = certificates("sslrootcert", path)?;
                authorities.add_parsable_certificates(pinned.iter().cloned());
                if authorities.is_empty() {
                    return Err(TlsError::Empty { parameter: "sslrootcert", path: path.clone() });
                }
                Ok(Self { authorities, pinned })
            }
        }
    }

    fn check(
        &self,
        certificate: &CertificateDer<'_>,
        parsed: &ParsedCertificate<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<(), Error> {
        match verify_server_cert_signed_by_trust_anchor(parsed, &self.authorities, chain, now, algorithms.all)
        {
            // The self-signed certificate of Postgres' own manual is an authority too, which rustls does
            // not take from a server (`CaUsedAsEndEntity`, found after its dates were checked).
            Err(Error::InvalidCertificate(CertificateError::Other(_)))
                if self.pinned.iter().any(|pinned| pinned == certificate) =>
            {
                Ok(())
            }
            outcome => outcome,
        }
    }
}

/// Checks what the mode asks for, and always that the server holds the key of the certificate it shows.
#[derive(Debug)]
struct Verifier {
    trust: Option<Trust>,
    names_host: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        if let Some(trust) = &self.trust {
            trust.check(certificate, &parsed, chain, now, &self.algorithms)?;
        }
        if self.names_host {
            verify_server_name(&parsed, host)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
