//! STS beside an IAM of a few roles and users, and a small identity provider on loopback.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use wharf_contracts::{
    CredentialError, CredentialSource, Credentials, Identity, IdentityPolicies, IdentityRef, OidcProvider,
    OidcProviders, PolicySource, RoleFacts, Roles,
};
use wharf_core::{
    AccountId, ApiError, Principal, Region, RequestContext, RequestId, Scope, SeededRng, Session, Timestamp,
};
use wharf_sts::{Dependencies, Sts};
use wharf_sts_api::types;
use wharf_vault::Vault;

pub const NOW: Timestamp = Timestamp::from_millis(1_795_000_000_000);
pub const ACCOUNT: &str = "123456789012";

pub fn account() -> AccountId {
    ACCOUNT.parse().unwrap()
}

pub fn after(duration: Duration) -> Timestamp {
    NOW.plus(duration)
}

/// What IAM knows.
#[derive(Default)]
pub struct Iam {
    pub roles: Mutex<BTreeMap<String, RoleFacts>>,
    pub providers: Mutex<BTreeMap<String, OidcProvider>>,
    /// Ids of users and roles that were deleted.
    pub deleted: Mutex<HashSet<String>>,
}

impl Roles for Iam {
    fn role(&self, account: AccountId, name: &str) -> Option<RoleFacts> {
        self.roles.lock().get(&name.to_lowercase()).filter(|role| role.account == account).cloned()
    }
}

impl IdentityPolicies for Iam {
    fn identity(&self, identity: IdentityRef<'_>) -> Option<Arc<Identity>> {
        let (IdentityRef::User { account, id } | IdentityRef::Role { account, id }) = identity;
        (!self.deleted.lock().contains(id)).then(|| {
            Arc::new(Identity {
                account,
                id: id.to_owned(),
                path: "/".to_owned(),
                name: "x".to_owned(),
                tags: BTreeMap::new(),
                policies: Vec::new(),
                boundary: None,
            })
        })
    }

    fn managed_policy(&self, _account: AccountId, arn: &str) -> Option<PolicySource> {
        (arn == "arn:aws:iam::aws:policy/ReadOnlyAccess")
            .then(|| PolicySource { name: arn.into(), document: "{}".into() })
    }
}

impl OidcProviders for Iam {
    fn oidc_provider(&self, account: AccountId, name: &str) -> Option<OidcProvider> {
        (account == self::account()).then(|| self.providers.lock().get(name).cloned()).flatten()
    }
}

pub struct World {
    pub sts: Arc<Sts>,
    pub iam: Arc<Iam>,
}

impl World {
    pub fn new() -> Self {
        Self::with_vault(&Vault::ephemeral(Arc::new(SeededRng::new(7))), 1)
    }

    /// Another process with the same data directory has the same vault and other random numbers.
    pub fn with_vault(vault: &Vault, seed: u64) -> Self {
        let iam = Arc::new(Iam::default());
        let sts = Sts::new(Dependencies {
            vault: vault.clone(),
            rng: Arc::new(SeededRng::new(seed)),
            roles: iam.clone(),
            identities: iam.clone(),
            oidc_providers: iam.clone(),
        });
        let world = Self { sts, iam };
        world.add_role("deploy", 3600, TRUST);
        world.add_role("long", 43_200, TRUST);
        world
    }

    pub fn add_role(&self, name: &str, seconds: u64, trust_policy: &str) {
        let facts = RoleFacts {
            account: account(),
            id: format!("AROA{}", name.to_uppercase()),
            path: "/".to_owned(),
            name: name.to_owned(),
            trust_policy: trust_policy.into(),
            max_session_duration: Duration::from_secs(seconds),
            tags: BTreeMap::new(),
        };
        self.iam.roles.lock().insert(name.to_lowercase(), facts);
    }

    /// What the pipeline does with temporary credentials.
    pub fn verify(
        &self,
        credentials: &types::Credentials,
        now: Timestamp,
    ) -> Result<Credentials, CredentialError> {
        self.sts.tokens().credentials(&credentials.access_key_id, Some(&credentials.session_token), now)
    }

    /// The context of a call that is signed with temporary credentials.
    pub fn context_of(&self, credentials: &types::Credentials, now: Timestamp) -> RequestContext {
        let verified = self.verify(credentials, now).unwrap();
        RequestContext {
            session: verified.session,
            access_key_id: credentials.access_key_id.clone(),
            now,
            ..context(verified.principal)
        }
    }

    pub async fn assume(
        &self,
        context: &RequestContext,
        input: types::AssumeRoleRequest,
    ) -> Result<types::AssumeRoleResponse, ApiError> {
        wharf_sts_api::Sts::assume_role(&*self.sts, context, input).await
    }
}

pub const TRUST: &str = r#"{"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Principal": {"AWS": "123456789012"}, "Action": "sts:AssumeRole"}]}"#;

pub fn role_arn(name: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:role/{name}")
}

pub fn role_request(name: &str) -> types::AssumeRoleRequest {
    types::AssumeRoleRequest {
        role_arn: role_arn(name),
        role_session_name: "session".to_owned(),
        ..types::AssumeRoleRequest::default()
    }
}

pub fn tag(key: &str, value: &str) -> types::Tag {
    types::Tag { key: key.to_owned(), value: value.to_owned() }
}

pub fn alice() -> Principal {
    Principal::User { account: account(), id: "AIDAALICE".into(), path: "/".into(), name: "alice".into() }
}

pub fn context(principal: Principal) -> RequestContext {
    RequestContext {
        request_id: RequestId::random(&SeededRng::new(1)),
        scope: Scope { account: principal.account(), region: Region::default() },
        principal,
        session: None::<Arc<Session>>,
        access_key_id: "AKIAALICE".to_owned(),
        source_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        now: NOW,
    }
}

/// An identity provider with one key of each kind that can be signed with here.
pub struct Provider {
    pub url: String,
    key: EcdsaKeyPair,
    key_id: Arc<Mutex<String>>,
    pub requests: Arc<Mutex<Vec<String>>>,
    /// What `/keys` answers with, when not the keys.
    pub keys_answer: Arc<Mutex<Option<String>>>,
}

impl Provider {
    pub async fn start() -> Self {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let key =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/realm", listener.local_addr().unwrap());
        let provider = Self {
            url,
            key,
            key_id: Arc::new(Mutex::new("one".to_owned())),
            requests: Arc::default(),
            keys_answer: Arc::default(),
        };
        provider.serve(listener);
        provider
    }

    fn serve(&self, listener: tokio::net::TcpListener) {
        let (x, y) = {
            let point = self.key.public_key().as_ref();
            (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..]))
        };
        let (url, key_id) = (self.url.clone(), Arc::clone(&self.key_id));
        let (requests, keys_answer) = (Arc::clone(&self.requests), Arc::clone(&self.keys_answer));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => break,
                    }
                }
                let head = String::from_utf8_lossy(&head);
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                requests.lock().push(path.clone());
                let body = match path.as_str() {
                    "/realm/.well-known/openid-configuration" => serde_json::json!({
                        "issuer": url, "jwks_uri": format!("{url}/keys"),
                        "response_types_supported": ["id_token"], "subject_types_supported": ["public"],
                        "id_token_signing_alg_values_supported": ["ES256"],
                    })
                    .to_string(),
                    "/realm/keys" => keys_answer.lock().clone().unwrap_or_else(|| {
                        serde_json::json!({"keys": [{
                            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256",
                            "kid": *key_id.lock(), "x": x, "y": y,
                        }]})
                        .to_string()
                    }),
                    _ => String::new(),
                };
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
    }

    /// From now on the key has another name.
    pub fn rotate(&self, key_id: &str) {
        key_id.clone_into(&mut self.key_id.lock());
    }

    /// Claims that every check lets through at [`NOW`].
    pub fn claims(&self) -> serde_json::Value {
        let now = NOW.as_millis() / 1000;
        serde_json::json!({"iss": self.url, "aud": "sts.amazonaws.com", "sub": "repo:me/app", "iat": now, "exp": now + 600})
    }

    pub fn sign(&self, claims: &serde_json::Value) -> String {
        let header = serde_json::json!({"alg": "ES256", "typ": "JWT", "kid": *self.key_id.lock()});
        self.sign_with(&header, claims)
    }

    pub fn sign_with(&self, header: &serde_json::Value, claims: &serde_json::Value) -> String {
        let encode = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(header), encode(claims));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    pub fn name(&self) -> &str {
        OidcProvider::name_of(&self.url)
    }

    pub fn arn(&self) -> String {
        format!("arn:aws:iam::{ACCOUNT}:oidc-provider/{}", self.name())
    }

    /// Makes the provider known to IAM, and a role that trusts it for `repo:me/*`.
    pub fn register(&self, world: &World) {
        let provider = OidcProvider {
            arn: self.arn(),
            url: self.url.clone(),
            client_ids: vec!["sts.amazonaws.com".to_owned()],
            thumbprints: Vec::new(),
        };
        world.iam.providers.lock().insert(self.name().to_owned(), provider);
        let trust = serde_json::json!({"Version": "2012-10-17", "Statement": [{
            "Effect": "Allow",
            "Principal": {"Federated": self.arn()},
            "Action": ["sts:AssumeRoleWithWebIdentity", "sts:TagSession"],
            "Condition": {
                "StringLike": {format!("{}:sub", self.name()): "repo:me/*"},
                "StringEquals": {format!("{}:aud", self.name()): "sts.amazonaws.com"},
            },
        }]});
        world.add_role("ci", 3600, &trust.to_string());
    }
}
