//! Whom a provider's certificate is believed: the system's authorities, or the thumbprints that were
//! registered.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use wharf_sts::oidc::fetch::{self, FetchError};

fn thumbprint(certificate: &CertificateDer<'_>) -> String {
    hex::encode(ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, certificate))
}

/// A server that answers everything with `{}`; its URL.
async fn serve(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> String {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut head = [0; 1024];
            let _ = stream.read(&mut head).await;
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
                .await;
            let _ = stream.shutdown().await;
        }
    });
    format!("https://localhost:{port}/")
}

fn key_der(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivateKeyDer::try_from(key.serialize_der()).unwrap()
}

#[tokio::test]
async fn a_self_signed_server_is_believed_by_its_thumbprint_and_its_name() {
    for (name, matches) in [("localhost", true), ("elsewhere.example.com", false)] {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
        let der = certificate.der().clone();
        let url = serve(vec![der.clone()], key_der(&key)).await;
        let unknown = fetch::get(&url, &[]).await;
        assert!(matches!(unknown, Err(FetchError::Tls { .. })), "{unknown:?}");
        let other = fetch::get(&url, &["0".repeat(40)]).await;
        assert!(matches!(other, Err(FetchError::Tls { .. })), "{other:?}");
        let pinned = fetch::get(&url, &["0".repeat(40), thumbprint(&der)]).await;
        assert_eq!(pinned.is_ok(), matches, "{pinned:?}");
    }
}

#[tokio::test]
async fn an_authority_is_believed_by_its_thumbprint_for_what_it_has_signed() {
    let authority = |name: &str| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    };
    let (good, other) = (authority("good"), authority("other"));
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &good).unwrap();
    let chain = vec![leaf.der().clone(), good.der().clone(), other.der().clone()];
    let url = serve(chain, key_der(&key)).await;
    assert!(fetch::get(&url, &[thumbprint(good.der())]).await.is_ok());
    // A certificate that is only shown vouches for nothing.
    let shown = fetch::get(&url, &[thumbprint(other.der())]).await;
    assert!(matches!(shown, Err(FetchError::Tls { .. })), "{shown:?}");
}

#[tokio::test]
async fn only_https_and_loopback_are_asked() {
    for url in
        ["ftp://127.0.0.1/", "file:///etc/passwd", "http://user@127.0.0.1/", "127.0.0.1", "", "http://"]
    {
        let refused = fetch::get(url, &[]).await;
        assert!(matches!(refused, Err(FetchError::Url(_))), "{url}: {refused:?}");
    }
}
