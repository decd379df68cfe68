//! Session tokens: temporary credentials that nothing has to remember.
//!
//! A token is everything that is known of a session (who, whose permissions, narrowed by what, until
//! when, and the secret access key), compressed and sealed by the vault under a key of its own
//! purpose, bound to the access key id. Whoever changes a byte of it, or puts it beside another key
//! id, has no token. Verification is an AEAD opening; what was opened lately is kept, within bounds,
//! so that a busy session costs a comparison.
//!
//! What must not happen here: a secret or a token in an error or in a `Debug`; a table of sessions.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Write};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use wharf_contracts::{
    CredentialError, CredentialSource, Credentials, IdentityPolicies, IdentityRef, Secret,
};
use wharf_core::access_key::{TEMPORARY_PREFIX, random_id, random_secret};
use wharf_core::{AccountId, Principal, Rng, Session, SessionOrigin, Timestamp};
use wharf_vault::{DataKey, SEALED_OVERHEAD_BYTES, Vault};

/// The purpose of the vault's data key.
const PURPOSE: &str = "sts.session-token";
/// The longest token, as it is sent (the greatest `MinimumSessionTokenSize` of STS).
pub const TOKEN_BYTES_MAX: usize = 4096;
/// The most that an opened token may hold once it is decompressed: the members' own bounds allow
/// less (50 tags of 384 bytes, policies of 2048 characters, 10 ARNs of 2048).
const CONTENT_BYTES_MAX: u64 = 96 * 1024;
/// How many opened tokens are kept: `CACHE_SETS` × `CACHE_WAYS`.
const CACHE_SETS: usize = 64;
const CACHE_WAYS: usize = 4;
/// Before the compressed content stands its length; what follows it is padding.
const LENGTH_BYTES: usize = 4;

/// What a token is made of. Tokens outlive a restart, so members are only ever added, with defaults.
#[derive(Serialize, Deserialize)]
struct Content {
    secret: String,
    principal: SealedPrincipal,
    issued_at: Timestamp,
    expires_at: Timestamp,
    origin: SessionOrigin,
    issuer: String,
    issuer_id: String,
    policies: Vec<String>,
    policy_arns: Vec<String>,
    tags: BTreeMap<String, String>,
    transitive_tag_keys: BTreeSet<String>,
    source_identity: Option<String>,
    federated_provider: Option<String>,
    federated_keys: BTreeMap<String, Vec<String>>,
    mfa_at: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
enum SealedPrincipal {
    Root { account: AccountId },
    User { account: AccountId, id: Arc<str>, path: Arc<str>, name: Arc<str> },
    AssumedRole { account: AccountId, id: Arc<str>, path: Arc<str>, name: Arc<str>, session: Arc<str> },
    FederatedUser { account: AccountId, name: Arc<str> },
}

/// New temporary credentials.
pub struct Issued {
    pub access_key_id: String,
    pub secret_access_key: String,
    pub session_token: String,
    pub expires_at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    #[error("the session does not fit into a token of {TOKEN_BYTES_MAX} bytes")]
    TooLarge,
    /// A mistake of ours.
    #[error("an anonymous caller has no session")]
    Anonymous,
}

struct Entry {
    access_key_id: String,
    token: String,
    credentials: Credentials,
}

/// Makes session tokens and knows them again.
pub struct SessionTokens {
    key: DataKey,
    rng: Arc<dyn Rng>,
    identities: Arc<dyn IdentityPolicies>,
    hasher: RandomState,
    cache: Vec<Mutex<Vec<Entry>>>,
}

impl SessionTokens {
    pub fn new(vault: &Vault, rng: Arc<dyn Rng>, identities: Arc<dyn IdentityPolicies>) -> Self {
        Self {
            key: vault.data_key(PURPOSE, ""),
            rng,
            identities,
            hasher: RandomState::new(),
            cache: (0..CACHE_SETS).map(|_| Mutex::new(Vec::new())).collect(),
        }
    }

    /// Makes credentials of a session; `session.token_digest` is not looked at. The token has at
    /// least `size_min` bytes, up to [`TOKEN_BYTES_MAX`].
    ///
    /// # Errors
    /// When the session does not fit into a token.
    pub fn issue(
        &self,
        principal: &Principal,
        session: &Session,
        size_min: usize,
    ) -> Result<Issued, IssueError> {
        let access_key_id = random_id(TEMPORARY_PREFIX, principal.account(), &*self.rng);
        let secret = random_secret(&*self.rng);
        let content = Content {
            secret: secret.clone(),
            principal: seal_principal(principal).ok_or(IssueError::Anonymous)?,
            issued_at: session.issued_at,
            expires_at: session.expires_at,
            origin: session.origin,
            issuer: session.issuer.clone(),
            issuer_id: session.issuer_id.clone(),
            policies: session.policies.clone(),
            policy_arns: session.policy_arns.clone(),
            tags: session.tags.clone(),
            transitive_tag_keys: session.transitive_tag_keys.clone(),
            source_identity: session.source_identity.clone(),
            federated_provider: session.federated_provider.clone(),
            federated_keys: session.federated_keys.clone(),
            mfa_at: session.mfa_at,
        };
        let packed = pack(&content);
        let mut plaintext =
            u32::try_from(packed.len()).map_err(|_| IssueError::TooLarge)?.to_be_bytes().to_vec();
        plaintext.extend_from_slice(&packed);
        // Base 64 makes four characters of three bytes.
        let wanted = (size_min.min(TOKEN_BYTES_MAX) / 4 * 3).saturating_sub(SEALED_OVERHEAD_BYTES);
        plaintext.resize(plaintext.len().max(wanted), 0);
        let mut token = STANDARD.encode(self.key.seal(access_key_id.as_bytes(), &plaintext));
        if token.len() < size_min.min(TOKEN_BYTES_MAX) {
            plaintext.resize(plaintext.len() + 3, 0);
            token = STANDARD.encode(self.key.seal(access_key_id.as_bytes(), &plaintext));
        }
        if token.len() > TOKEN_BYTES_MAX {
            return Err(IssueError::TooLarge);
        }
        Ok(Issued {
            access_key_id,
            secret_access_key: secret,
            session_token: token,
            expires_at: session.expires_at,
        })
    }

    /// Opens a token, whether or not it is expired.
    fn open(&self, access_key_id: &str, token: &str) -> Result<Credentials, CredentialError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(CredentialError::InvalidToken);
        }
        let set = &self.cache[(self.hasher.hash_one((access_key_id, token)) % CACHE_SETS as u64) as usize];
        {
            let mut entries = set.lock();
            let found =
                entries.iter().position(|entry| entry.access_key_id == access_key_id && entry.token == token);
            if let Some(position) = found {
                entries[..=position].rotate_right(1);
                return Ok(entries[0].credentials.clone());
            }
        }
        let credentials = self.open_sealed(access_key_id, token).ok_or(CredentialError::InvalidToken)?;
        let entry = Entry {
            access_key_id: access_key_id.to_owned(),
            token: token.to_owned(),
            credentials: credentials.clone(),
        };
        let mut entries = set.lock();
        entries.truncate(CACHE_WAYS - 1);
        entries.insert(0, entry);
        Ok(credentials)
    }

    fn open_sealed(&self, access_key_id: &str, token: &str) -> Option<Credentials> {
        let sealed = STANDARD.decode(token).ok()?;
        let plaintext = self.key.unseal(access_key_id.as_bytes(), &sealed).ok()?;
        let (length, rest) = plaintext.split_first_chunk::<LENGTH_BYTES>()?;
        let packed = rest.get(..u32::from_be_bytes(*length) as usize)?;
        let content = unpack(packed)?;
        let session = Session {
            issued_at: content.issued_at,
            expires_at: content.expires_at,
            origin: content.origin,
            issuer: content.issuer,
            issuer_id: content.issuer_id,
            policies: content.policies,
            policy_arns: content.policy_arns,
            tags: content.tags,
            transitive_tag_keys: content.transitive_tag_keys,
            source_identity: content.source_identity,
            federated_provider: content.federated_provider,
            federated_keys: content.federated_keys,
            mfa_at: content.mfa_at,
            token_digest: Sha256::digest(token).into(),
        };
        Some(Credentials {
            principal: open_principal(content.principal),
            secret: Secret::Known(content.secret),
            session: Some(Arc::new(session)),
        })
    }

    /// Whether the user or role that the session's permissions come from still exists.
    fn issuer_exists(&self, principal: &Principal, session: &Session) -> bool {
        let identity = match principal {
            Principal::User { account, id, .. } => IdentityRef::User { account: *account, id },
            Principal::AssumedRole { account, role_id, .. } => {
                IdentityRef::Role { account: *account, id: role_id }
            }
            Principal::FederatedUser { account, .. } if session.issuer_id != account.to_string() => {
                IdentityRef::User { account: *account, id: &session.issuer_id }
            }
            Principal::Root { .. } | Principal::FederatedUser { .. } => return true,
            Principal::Anonymous => return false,
        };
        self.identities.identity(identity).is_some()
    }
}

impl CredentialSource for SessionTokens {
    fn credentials(
        &self,
        access_key_id: &str,
        session_token: Option<&str>,
        now: Timestamp,
    ) -> Result<Credentials, CredentialError> {
        let token = session_token.ok_or(CredentialError::InvalidToken)?;
        let credentials = self.open(access_key_id, token)?;
        let Some(session) = &credentials.session else { return Err(CredentialError::InvalidToken) };
        if session.expires_at <= now {
            return Err(CredentialError::Expired);
        }
        if !self.issuer_exists(&credentials.principal, session) {
            return Err(CredentialError::InvalidToken);
        }
        Ok(credentials)
    }
}

fn seal_principal(principal: &Principal) -> Option<SealedPrincipal> {
    Some(match principal.clone() {
        Principal::Root { account } => SealedPrincipal::Root { account },
        Principal::User { account, id, path, name } => SealedPrincipal::User { account, id, path, name },
        Principal::AssumedRole { account, role_id, role_path, role_name, session_name } => {
            SealedPrincipal::AssumedRole {
                account,
                id: role_id,
                path: role_path,
                name: role_name,
                session: session_name,
            }
        }
        Principal::FederatedUser { account, name } => SealedPrincipal::FederatedUser { account, name },
        Principal::Anonymous => return None,
    })
}

fn open_principal(sealed: SealedPrincipal) -> Principal {
    match sealed {
        SealedPrincipal::Root { account } => Principal::Root { account },
        SealedPrincipal::User { account, id, path, name } => Principal::User { account, id, path, name },
        SealedPrincipal::AssumedRole { account, id, path, name, session } => Principal::AssumedRole {
            account,
            role_id: id,
            role_path: path,
            role_name: name,
            session_name: session,
        },
        SealedPrincipal::FederatedUser { account, name } => Principal::FederatedUser { account, name },
    }
}

fn pack(content: &Content) -> Vec<u8> {
    let plain = rmp_serde::to_vec_named(content).expect("strings, numbers and maps always serialize");
    compress(&plain)
}

fn unpack(packed: &[u8]) -> Option<Content> {
    let mut plain = Vec::with_capacity(1024);
    DeflateDecoder::new(packed).take(CONTENT_BYTES_MAX).read_to_end(&mut plain).ok()?;
    rmp_serde::from_slice(&plain).ok()
}

/// As a token holds it; also the measure of what session policies and tags take.
pub(crate) fn compress(plain: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::with_capacity(plain.len() / 2), Compression::default());
    encoder.write_all(plain).expect("a vector takes every byte");
    encoder.finish().expect("a vector takes every byte")
}
