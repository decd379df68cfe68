//! Gets a small document from an identity provider.
//!
//! HTTPS everywhere; plain HTTP to an address of this machine's loopback alone, for providers that
//! run beside Wharf. A certificate is good when the system's authorities vouch for it or when the
//! provider's thumbprints name one in its chain (IAM User Guide, "Obtain the thumbprint for an OpenID
//! Connect identity provider"). No redirect is followed, no proxy asked, nothing sent but the request.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// How long a document may take from beginning to end.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest document.
const DOCUMENT_BYTES_MAX: usize = 256 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("{0:?} is not a URL of an https server, or of an http server on loopback")]
    Url(String),
    #[error("cannot connect to {host}")]
    Connect { host: String, source: std::io::Error },
    #[error("{host} is not on loopback, which http requires")]
    NotLoopback { host: String },
    #[error("no trust in {host}")]
    Tls { host: String, source: std::io::Error },
    #[error("the request to {host} failed")]
    Http { host: String, source: hyper::Error },
    #[error("{host} answers {status}")]
    Status { host: String, status: StatusCode },
    #[error("the answer of {host} cannot be read or is larger than {DOCUMENT_BYTES_MAX} bytes")]
    Body { host: String },
    #[error("{host} does not answer within {} seconds", FETCH_TIMEOUT.as_secs())]
    Timeout { host: String },
}

enum Scheme {
    Http,
    Https,
}

struct Target {
    scheme: Scheme,
    host: String,
    port: u16,
    authority: String,
    path: String,
}

/// Gets what stands at `url`. `thumbprints`: SHA-1 of certificates, in lower-case hexadecimal.
///
/// # Errors
/// As [`FetchError`] says.
pub async fn get(url: &str, thumbprints: &[String]) -> Result<Bytes, FetchError> {
    let target = Target::parse(url)?;
    let host = target.host.clone();
    match tokio::time::timeout(FETCH_TIMEOUT, target.get(thumbprints)).await {
        Ok(answer) => answer,
        Err(_) => Err(FetchError::Timeout { host }),
    }
}

impl Target {
    fn parse(url: &str) -> Result<Self, FetchError> {
        let bad = || FetchError::Url(url.chars().take(255).collect());
        let uri: Uri = url.parse().map_err(|_| bad())?;
        let scheme = match uri.scheme_str() {
            Some("https") => Scheme::Https,
            Some("http") => Scheme::Http,
            _ => return Err(bad()),
        };
        let authority = uri.authority().ok_or_else(bad)?;
        if authority.as_str().contains('@') {
            return Err(bad());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(match scheme {
            Scheme::Http => 80,
            Scheme::Https => 443,
        });
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { scheme, host, port, authority: authority.to_string(), path })
    }

    async fn get(self, thumbprints: &[String]) -> Result<Bytes, FetchError> {
        let host = || self.host.clone();
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|source| FetchError::Connect { host: host(), source })?;
        match self.scheme {
            Scheme::Http => {
                let is_loopback = stream.peer_addr().is_ok_and(|address| address.ip().is_loopback());
                if !is_loopback {
                    return Err(FetchError::NotLoopback { host: host() });
                }
                self.exchange(stream).await
            }
            Scheme::Https => {
                let tls =
                    |error: String| FetchError::Tls { host: host(), source: std::io::Error::other(error) };
                let name = ServerName::try_from(self.host.clone()).map_err(|error| tls(error.to_string()))?;
                let config = client_config(thumbprints).map_err(|error| tls(error.to_string()))?;
                let stream = tokio_rustls::TlsConnector::from(Arc::new(config))
                    .connect(name, stream)
                    .await
                    .map_err(|source| FetchError::Tls { host: host(), source })?;
                self.exchange(stream).await
            }
        }
    }

    async fn exchange<S>(&self, stream: S) -> Result<Bytes, FetchError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let host = || self.host.clone();
        let http = |source| FetchError::Http { host: host(), source };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
        let request = Request::get(&self.path)
            .header(header::HOST, &self.authority)
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, concat!("wharf/", env!("CARGO_PKG_VERSION")))
            .header(header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .map_err(|_| FetchError::Url(self.path.clone()))?;
        let answer = async {
            let answer = sender.send_request(request).await.map_err(http)?;
            if answer.status() != StatusCode::OK {
                return Err(FetchError::Status { host: host(), status: answer.status() });
            }
            let body = Limited::new(answer.into_body(), DOCUMENT_BYTES_MAX);
            let body = body.collect().await.map_err(|_| FetchError::Body { host: host() })?;
            Ok(body.to_bytes())
        };
        // The connection makes progress beside the answer, and ends with it.
        tokio::pin!(answer);
        tokio::select! {
            answer = &mut answer => answer,
            ended = connection => match ended {
                Ok(()) => answer.await,
                Err(source) => Err(http(source)),
            },
        }
    }
}

fn client_config(thumbprints: &[String]) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(Trust {
        system: system_verifier(&provider),
        thumbprints: thumbprints.to_vec(),
        provider: Arc::clone(&provider),
    });
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth())
}

/// Of the system's authorities; `None` on a machine that has none.
fn system_verifier(provider: &Arc<rustls::crypto::CryptoProvider>) -> Option<Arc<WebPkiServerVerifier>> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(store)
    });
    WebPkiServerVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider)).build().ok()
}

/// The system's authorities, then the thumbprints.
#[derive(Debug)]
struct Trust {
    system: Option<Arc<WebPkiServerVerifier>>,
    thumbprints: Vec<String>,
    provider: Arc<rustls::crypto::CryptoProvider>,
}

impl Trust {
    fn names(&self, certificate: &CertificateDer<'_>) -> bool {
        let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, certificate);
        let thumbprint = hex::encode(digest);
        self.thumbprints.iter().any(|known| known.eq_ignore_ascii_case(&thumbprint))
    }
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let by_system = match &self.system {
            Some(system) => {
                system.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            }
            None => Err(rustls::CertificateError::UnknownIssuer.into()),
        };
        let Err(refused) = by_system else { return by_system };
        // A chain that ends in a named certificate: that one is the anchor.
        for certificate in intermediates.iter().filter(|certificate| self.names(certificate)) {
            let mut anchors = RootCertStore::empty();
            if anchors.add(certificate.clone()).is_err() {
                continue;
            }
            let verifier =
                WebPkiServerVerifier::builder_with_provider(Arc::new(anchors), Arc::clone(&self.provider))
                    .build();
            if let Ok(verifier) = verifier
                && let Ok(verified) =
                    verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            {
                return Ok(verified);
            }
        }
        // The server's own certificate, self-signed: nothing but its name is left to check.
        if self.names(end_entity) {
            let parsed = rustls::server::ParsedCertificate::try_from(end_entity)?;
            rustls::client::verify_server_name(&parsed, server_name)?;
            return Ok(ServerCertVerified::assertion());
        }
        Err(refused)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
