//! Reading server certificates: that they are certificates, that the key is theirs, that the chain
//! holds. Trust is not asked for: a certificate signed by itself may be uploaded.

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use wharf_core::{ApiError, Timestamp};
use wharf_iam_api::errors;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

/// How many certificates a chain may have.
const CHAIN_MAX: usize = 10;

/// What is known of a certificate that has been checked.
#[derive(Debug)]
pub struct Checked {
    pub expires_at: Timestamp,
}

fn malformed(message: impl Into<String>) -> ApiError {
    errors::malformed_certificate_exception(message)
}

/// Checks a certificate with its key and its chain, all PEM.
///
/// # Errors
/// `MalformedCertificate` when something cannot be read, has expired, or the chain does not hold;
/// `KeyPairMismatch` when the key is another's.
pub fn check(
    body: &str,
    private_key: &str,
    chain: Option<&str>,
    now: Timestamp,
) -> Result<Checked, ApiError> {
    let ders: Vec<CertificateDer<'_>> = CertificateDer::pem_slice_iter(body.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|_| unreadable())?;
    let [der] = ders.as_slice() else { return Err(unreadable()) };
    let certificate = parse(der)?;
    let expires_at = millis(certificate.validity().not_after.timestamp());
    if expires_at < now {
        return Err(malformed(
            "Certificate is no longer valid. The 'Not After' date restriction on the certificate has passed.",
        ));
    }
    check_key(&certificate, private_key)?;
    check_chain(&certificate, chain)?;
    Ok(Checked { expires_at })
}

fn unreadable() -> ApiError {
    malformed("Unable to parse certificate. Please ensure the certificate is in PEM format.")
}

fn millis(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds.saturating_mul(1000))
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, ApiError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(unreadable()),
    }
}

fn check_key(certificate: &X509Certificate<'_>, private_key: &str) -> Result<(), ApiError> {
    if private_key.contains("ENCRYPTED") {
        return Err(malformed("Unable to parse key; is it encrypted? Encrypted keys are not supported."));
    }
    let invalid = || malformed("Invalid Private Key.");
    let key = PrivateKeyDer::from_pem_slice(private_key.as_bytes()).map_err(|_| invalid())?;
    let key = rustls::crypto::ring::sign::any_supported_type(&key).map_err(|_| invalid())?;
    let public_key = key.public_key().ok_or_else(invalid)?;
    // Both are a SubjectPublicKeyInfo; they may differ in how they say the algorithm, not in the key.
    let (_, of_key) =
        x509_parser::x509::SubjectPublicKeyInfo::from_der(&public_key).map_err(|_| invalid())?;
    if of_key.subject_public_key.data == certificate.public_key().subject_public_key.data {
        Ok(())
    } else {
        Err(errors::key_pair_mismatch_exception("The private key does not match the certificate."))
    }
}

/// Each certificate of the chain signs the one before it.
fn check_chain(certificate: &X509Certificate<'_>, chain: Option<&str>) -> Result<(), ApiError> {
    let Some(chain) = chain else { return Ok(()) };
    let ders: Vec<CertificateDer<'_>> = CertificateDer::pem_slice_iter(chain.as_bytes())
        .take(CHAIN_MAX + 1)
        .collect::<Result<_, _>>()
        .map_err(|_| unreadable())?;
    if ders.is_empty() || ders.len() > CHAIN_MAX {
        return Err(unreadable());
    }
    let parsed: Vec<X509Certificate<'_>> = ders.iter().map(parse).collect::<Result<_, _>>()?;
    let mut signed = certificate;
    for (index, signer) in parsed.iter().enumerate() {
        let holds =
            signed.issuer() == signer.subject() && signed.verify_signature(Some(signer.public_key())).is_ok();
        if !holds {
            return Err(malformed(format!(
                "Unable to validate certificate chain. The certificate chain must start with the immediate signing \
                 certificate, followed by any intermediaries in order. The index within the chain of the invalid \
                 certificate is: {index}"
            )));
        }
        signed = signer;
    }
    Ok(())
}
