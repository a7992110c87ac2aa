//! Which server is believed to be the one that was asked for.

use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SupportedProtocolVersion};

use super::super::test_server::{Files, TestServer};
use super::super::{ConnectError, Connector};
use super::*;
use crate::text::error_chain;

const SSL_ON: &str = "ssl = on\nssl_ca_file = '../ca.crt'\nssl_cert_file = '../server.crt'\n\
                      ssl_key_file = '../server.key'\n";

struct Authority(rcgen::Certificate, Issuer<'static, KeyPair>);

fn params(names: &[&str], authority: bool) -> CertificateParams {
    let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.is_ca = if authority { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::ExplicitNoCa };
    params
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = params(&[], true);
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.self_signed(&key).unwrap();
        Self(certificate, Issuer::new(params, key))
    }

    fn signs(&self, common_name: &str, names: &[&str], purpose: ExtendedKeyUsagePurpose) -> [String; 2] {
        let key = KeyPair::generate().unwrap();
        let mut params = params(names, false);
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.extended_key_usages = vec![purpose];
        [params.signed_by(&key, &self.1).unwrap().pem(), key.serialize_pem()]
    }
}

fn ssl_files(authority: &str, certificate: &str, key: &str) -> Files {
    Files::new().with("ca.crt", authority).with("server.crt", certificate).with("server.key", key)
}

/// Whether the session is encrypted and as whom it runs; an error comes back as one line.
async fn session(url: &str) -> Result<(bool, String), String> {
    let url = ServerUrl::parse(url).map_err(|error| error.to_string())?;
    let connector = Connector::new(&url, Duration::from_secs(10)).map_err(|error| error_chain(&error))?;
    let (client, connection) = connector.connect().await.map_err(|error| error_chain(&error))?;
    let driver = tokio::spawn(connection);
    let query = "select ssl, current_user::text from pg_stat_ssl where pid = pg_backend_pid()";
    let row = client.query_one(query, &[]).await.map_err(|error| error_chain(&error))?;
    drop(client);
    driver.await.unwrap().unwrap();
    Ok((row.get(0), row.get(1)))
}

async fn check_all(cases: &[(String, Result<bool, &str>)]) {
    for (url, expected) in cases {
        let outcome = session(url).await;
        match (&outcome, expected) {
            (Ok((ssl, _)), Ok(expected)) => assert_eq!(ssl, expected, "{url}"),
            (Err(error), Err(words)) => assert!(error.contains(words), "{url}: {error}"),
            _ => panic!("{url}: {outcome:?}, expected {expected:?}"),
        }
    }
}

#[tokio::test]
async fn each_mode_checks_what_libpq_checks() {
    let (ca, other) = (Authority::new("right"), Authority::new("other"));
    let [certificate, key] = ca.signs("server", &["localhost"], ExtendedKeyUsagePurpose::ServerAuth);
    let files = ssl_files(&ca.0.pem(), &certificate, &key).with("other.crt", &other.0.pem());
    let server = TestServer::start(files, SSL_ON, "host all all 127.0.0.1/32 trust\n");
    let url = |host: &str, query: &str| {
        let query = query.replace("RIGHT", &server.path("ca.crt"));
        let query = query.replace("OTHER", &server.path("other.crt"));
        format!("postgres://postgres@{host}:{}/postgres?{query}", server.port)
    };
    check_all(&[
        (url("localhost", "sslmode=disable"), Ok(false)),
        (url("localhost", "sslmode=disable&sslrootcert=/missing"), Ok(false)),
        (url("localhost", "sslmode=allow"), Ok(true)),
        (url("localhost", "sslmode=prefer"), Ok(true)),
        (url("localhost", ""), Ok(true)),
        (url("localhost", "sslmode=require"), Ok(true)),
        (url("127.0.0.1", "sslmode=require"), Ok(true)),
        (url("127.0.0.1", "sslmode=require&sslrootcert=RIGHT"), Ok(true)),
        (url("localhost", "sslmode=require&sslrootcert=OTHER"), Err("UnknownIssuer")),
        (url("localhost", "sslmode=prefer&sslrootcert=OTHER"), Err("UnknownIssuer")),
        (url("127.0.0.1", "sslmode=verify-ca&sslrootcert=RIGHT"), Ok(true)),
        (url("localhost", "sslmode=verify-ca&sslrootcert=OTHER"), Err("UnknownIssuer")),
        (url("localhost", "sslmode=verify-ca"), Err("certificate")),
        (url("localhost", "sslmode=verify-full&sslrootcert=RIGHT"), Ok(true)),
        (url("127.0.0.1", "sslmode=verify-full&sslrootcert=RIGHT"), Err("not valid for name")),
        (url("localhost", "sslmode=verify-full&sslrootcert=OTHER"), Err("UnknownIssuer")),
        (url("localhost", "sslrootcert=system"), Err("certificate")),
        (url("localhost", "hostaddr=127.0.0.1&sslmode=verify-full&sslrootcert=RIGHT"), Ok(true)),
        (url("localhost", "sslmode=verify-full&sslrootcert=/missing"), Err("sslrootcert: cannot read")),
        (url("localhost", "sslmode=require&host=&hostaddr=127.0.0.1"), Ok(true)),
    ])
    .await;
}

#[tokio::test]
async fn a_self_signed_certificate_can_be_its_own_root() {
    let key = KeyPair::generate().unwrap();
    let certificate = params(&["localhost"], true).self_signed(&key).unwrap().pem();
    let other = KeyPair::generate().unwrap();
    let other = params(&["localhost"], true).self_signed(&other).unwrap().pem();
    let files = ssl_files(&certificate, &certificate, &key.serialize_pem()).with("other.crt", &other);
    let server = TestServer::start(files, SSL_ON, "hostssl all all 127.0.0.1/32 trust\n");
    let bare = |mode| format!("host=localhost port={} user=postgres sslmode={mode}", server.port);
    let url = |host: &str, mode: &str, root: &str| {
        let root = server.path(root);
        format!("host={host} port={} user=postgres sslmode={mode} sslrootcert={root}", server.port)
    };
    check_all(&[
        (bare("require"), Ok(true)),
        (bare("disable"), Err("no encryption")),
        (url("127.0.0.1", "verify-ca", "server.crt"), Ok(true)),
        (url("localhost", "verify-full", "server.crt"), Ok(true)),
        (url("127.0.0.1", "verify-full", "server.crt"), Err("not valid for name")),
        (url("localhost", "verify-ca", "other.crt"), Err("invalid peer certificate")),
        (url("localhost", "verify-ca", "server.key"), Err("sslrootcert: no certificate in")),
    ])
    .await;
}

#[tokio::test]
async fn a_server_without_tls_is_reached_only_if_the_url_allows_it() {
    let server = TestServer::start(Files::new(), "", "host all all 127.0.0.1/32 trust\n");
    let url = |mode| format!("postgres://postgres@127.0.0.1:{}/postgres?sslmode={mode}", server.port);
    check_all(&[
        (url("disable"), Ok(false)),
        (url("allow"), Ok(false)),
        (url("prefer"), Ok(false)),
        (url("require"), Err("server does not support TLS")),
        (url("verify-full"), Err("server does not support TLS")),
    ])
    .await;
}

#[tokio::test]
async fn a_client_certificate_and_a_bound_password_log_in() {
    let ca = Authority::new("right");
    let [certificate, key] = ca.signs("server", &["localhost"], ExtendedKeyUsagePurpose::ServerAuth);
    let [own, own_key] = ca.signs("worker", &[], ExtendedKeyUsagePurpose::ClientAuth);
    let files = ssl_files(&ca.0.pem(), &certificate, &key).with("own.crt", &own).with("own.key", &own_key);
    let rules = "hostssl all worker 127.0.0.1/32 cert\nhostssl all app 127.0.0.1/32 scram-sha-256\n\
                 hostssl all postgres 127.0.0.1/32 trust\n";
    let server = TestServer::start(files, SSL_ON, rules);
    let root = server.path("ca.crt");
    let base = format!("localhost:{}/postgres?sslmode=verify-full&sslrootcert={root}", server.port);

    let admin = ServerUrl::parse(&format!("postgres://postgres@{base}")).unwrap();
    let connector = Connector::new(&admin, Duration::from_secs(10)).unwrap();
    let (client, connection) = connector.connect().await.unwrap();
    let driver = tokio::spawn(connection);
    let create = "create role worker login; create role app login password 'p@s/s:w?d%'";
    client.batch_execute(create).await.unwrap();
    drop(client);
    driver.await.unwrap().unwrap();

    let with_key = |key| format!("{base}&sslcert={}&sslkey={}", server.path("own.crt"), server.path(key));
    let worker = session(&format!("postgres://worker@{}", with_key("own.key"))).await;
    assert_eq!(worker, Ok((true, "worker".to_owned())));
    let stranger = session(&format!("postgres://worker@{base}")).await.unwrap_err();
    assert!(stranger.contains("certificate"), "{stranger}");
    let mixed = session(&format!("postgres://worker@{}", with_key("server.key"))).await.unwrap_err();
    assert!(mixed.contains("sslcert and sslkey"), "{mixed}");
    let app = session(&format!("postgres://app:p%40s%2Fs%3Aw%3Fd%25@{base}&channel_binding=require")).await;
    assert_eq!(app, Ok((true, "app".to_owned())));
    let wrong = session(&format!("postgres://app:SEKRIT@{base}")).await.unwrap_err();
    assert!(wrong.contains("password authentication failed") && !wrong.contains("SEKRIT"), "{wrong}");
}

/// Shows one certificate and signs with a key, whether they belong together or not.
#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesServerCert for Shows {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// A TLS handshake in memory, as the client sees it.
fn handshake(
    certificate: &KeyPair,
    signer: &KeyPair,
    version: &'static SupportedProtocolVersion,
) -> Result<(), Error> {
    let shown = params(&["localhost"], false).self_signed(certificate).unwrap().der().clone();
    let signer = PrivateKeyDer::try_from(signer.serialize_der()).unwrap();
    let signer = ring::sign::any_supported_type(&signer).unwrap();
    let resolver = Shows(Arc::new(CertifiedKey::new(vec![shown], signer)));
    let server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    let mut server = rustls::ServerConnection::new(Arc::new(server)).unwrap();
    let url = ServerUrl::parse("postgres://localhost?sslmode=require").unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(client_config(&url).unwrap()), name)?;
    while client.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets()?;
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    Ok(())
}

#[test]
fn require_wants_the_key_of_the_certificate_that_is_shown() {
    let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        assert_eq!(handshake(&key, &key, version), Ok(()));
        let stolen = handshake(&key, &other, version);
        assert_eq!(stolen, Err(Error::InvalidCertificate(CertificateError::BadSignature)));
    }
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_is_given_up() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = ServerUrl::parse(&format!("postgres://u@127.0.0.1:{port}/d")).unwrap();
    let connector = Connector::new(&url, Duration::from_millis(50)).unwrap();
    let outcome = connector.connect().await.map(|_| ());
    assert!(matches!(outcome, Err(ConnectError::Timeout(_))), "{outcome:?}");
}

#[test]
fn a_pool_takes_the_connector() {
    let url = ServerUrl::parse("postgres://u@localhost/d").unwrap();
    let connector = Connector::new(&url, Duration::from_secs(5)).unwrap();
    let _ = deadpool_postgres::Manager::from_config(
        connector.config().clone(),
        connector.tls(),
        deadpool_postgres::ManagerConfig::default(),
    );
}
