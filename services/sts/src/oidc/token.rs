//! A JSON Web Token in its compact form, and what its claims must say.
//!
//! Nothing of a token is believed before [`super::keys::KeySet::verify`] has said yes, except the
//! issuer and the key id, which only choose whose keys it is verified with.
//!
//! Sources: RFC 7515 and 7519; IAM User Guide, "Available keys for AWS OIDC federation" and "Passing
//! session tags using AssumeRoleWithWebIdentity".

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use wharf_contracts::OidcProvider;
use wharf_core::Timestamp;

use super::keys::{Algorithm, KeySet};

/// The longest token that STS takes.
pub const TOKEN_CHARACTERS_MAX: usize = 20_000;
/// How far the provider's clock may be ahead of ours.
const CLOCK_SKEW_SECONDS_MAX: i64 = 60;
/// The longest subject that is taken; the longest that AWS answers with
/// (`SubjectFromWebIdentityToken`).
const SUBJECT_CHARACTERS_MAX: usize = 255;
/// The most values of one claim.
const VALUES_MAX: usize = 50;

/// Where AWS looks for session tags.
const TAGS_CLAIM: &str = "https://aws.amazon.com/tags";
const SOURCE_IDENTITY_CLAIM: &str = "https://aws.amazon.com/source_identity";

/// Why a token is refused; the texts are AWS's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)")]
    NotAToken,
    #[error("Unsupported signing algorithm: {0}")]
    Algorithm(String),
    #[error("Missing a required claim: {0}")]
    MissingClaim(&'static str),
    #[error("Invalid claim: {0}")]
    BadClaim(&'static str),
    #[error("Incorrect token audience")]
    Audience,
    #[error("Issuer of the token does not match the identity provider")]
    Issuer,
    #[error("Token expired: current date/time {now} must be before the expiration date/time {expires}")]
    Expired { now: i64, expires: i64 },
    #[error("Token is not valid yet: current date/time {now} must not be before {from}")]
    NotYet { now: i64, from: i64 },
    #[error("Provided Token is signed by an unknown key or its signature does not match")]
    Signature,
}

/// A token whose parts could be read.
pub struct Token<'t> {
    pub algorithm: Algorithm,
    pub key_id: Option<String>,
    claims: Map<String, Value>,
    signed: &'t [u8],
    signature: Vec<u8>,
}

/// What a verified token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    pub subject: String,
    /// The client id that was matched.
    pub audience: String,
    /// Condition keys: `aud`, `sub`, `amr` … below the provider's name.
    pub keys: BTreeMap<String, Vec<String>>,
    pub tags: BTreeMap<String, String>,
    pub transitive_tag_keys: BTreeSet<String>,
    pub source_identity: Option<String>,
}

impl<'t> Token<'t> {
    /// # Errors
    /// [`TokenError::NotAToken`] and [`TokenError::Algorithm`].
    pub fn parse(text: &'t str) -> Result<Self, TokenError> {
        if text.len() > TOKEN_CHARACTERS_MAX {
            return Err(TokenError::NotAToken);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(TokenError::NotAToken)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenError::NotAToken)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::NotAToken);
        // serde_json gives up 128 levels deep.
        let object = |part: &str| match serde_json::from_slice(&decode(part)?) {
            Ok(Value::Object(object)) => Ok(object),
            _ => Err(TokenError::NotAToken),
        };
        let header = object(header)?;
        // RFC 7515, 4.1.11: what the token calls critical must be understood, and nothing is.
        if header.contains_key("crit") {
            return Err(TokenError::NotAToken);
        }
        let name = header.get("alg").and_then(Value::as_str).ok_or(TokenError::NotAToken)?;
        let algorithm =
            Algorithm::named(name).ok_or_else(|| TokenError::Algorithm(name.chars().take(16).collect()))?;
        let key_id = match header.get("kid") {
            None => None,
            Some(Value::String(id)) => Some(id.clone()),
            Some(_) => return Err(TokenError::NotAToken),
        };
        let claims = object(payload)?;
        Ok(Self { algorithm, key_id, claims, signed: signed.as_bytes(), signature: decode(signature)? })
    }

    /// Who the token says that it is from. Not to be believed.
    ///
    /// # Errors
    /// [`TokenError::MissingClaim`].
    pub fn issuer(&self) -> Result<&str, TokenError> {
        self.claims.get("iss").and_then(Value::as_str).ok_or(TokenError::MissingClaim("iss"))
    }

    /// Verifies signature and claims.
    ///
    /// # Errors
    /// As [`TokenError`] says.
    pub fn verify(
        &self,
        provider: &OidcProvider,
        keys: &KeySet,
        now: Timestamp,
    ) -> Result<Claims, TokenError> {
        if !keys.verify(self.algorithm, self.key_id.as_deref(), self.signed, &self.signature) {
            return Err(TokenError::Signature);
        }
        if self.issuer()? != provider.url {
            return Err(TokenError::Issuer);
        }
        let now = now.as_millis().div_euclid(1000);
        let expires = self.seconds("exp")?.ok_or(TokenError::MissingClaim("exp"))?;
        if expires <= now {
            return Err(TokenError::Expired { now, expires });
        }
        self.seconds("iat")?.ok_or(TokenError::MissingClaim("iat"))?;
        for name in ["nbf", "iat"] {
            if let Some(from) = self.seconds(name)?
                && from > now.saturating_add(CLOCK_SKEW_SECONDS_MAX)
            {
                return Err(TokenError::NotYet { now, from });
            }
        }
        let subject = self.text("sub")?.ok_or(TokenError::MissingClaim("sub"))?;
        if subject.is_empty() || subject.chars().count() > SUBJECT_CHARACTERS_MAX {
            return Err(TokenError::BadClaim("sub"));
        }
        let audiences = self.texts("aud")?;
        let authorized = self.text("azp")?;
        let known = |audience: &&String| provider.client_ids.contains(audience);
        let audience = audiences
            .iter()
            .find(known)
            .or(authorized.as_ref().filter(known))
            .ok_or(if audiences.is_empty() { TokenError::MissingClaim("aud") } else { TokenError::Audience })?
            .clone();
        let (tags, transitive_tag_keys) = self.tags()?;
        Ok(Claims {
            keys: self.condition_keys(provider, &audiences, authorized.as_deref())?,
            subject,
            audience,
            tags,
            transitive_tag_keys,
            source_identity: self.text(SOURCE_IDENTITY_CLAIM)?,
        })
    }

    fn condition_keys(
        &self,
        provider: &OidcProvider,
        audiences: &[String],
        authorized: Option<&str>,
    ) -> Result<BTreeMap<String, Vec<String>>, TokenError> {
        let name = OidcProvider::name_of(&provider.url);
        let mut keys = BTreeMap::new();
        // Google's `azp` takes the place of its `aud`, which is then called `oaud`.
        let (audience, original) = match authorized {
            Some(authorized) if name == "accounts.google.com" => {
                (vec![authorized.to_owned()], Some(audiences.to_vec()))
            }
            _ => (audiences.to_vec(), None),
        };
        keys.insert(format!("{name}:aud"), audience);
        if let Some(original) = original {
            keys.insert(format!("{name}:oaud"), original);
        }
        for (claim, key) in [("sub", "sub"), ("amr", "amr"), ("email", "email")] {
            let values = self.texts(claim)?;
            if !values.is_empty() {
                keys.insert(format!("{name}:{key}"), values);
            }
        }
        Ok(keys)
    }

    /// `{"principal_tags": {"Project": ["x"]}, "transitive_tag_keys": ["Project"]}`
    fn tags(&self) -> Result<(BTreeMap<String, String>, BTreeSet<String>), TokenError> {
        const BAD: TokenError = TokenError::BadClaim(TAGS_CLAIM);
        let Some(claim) = self.claims.get(TAGS_CLAIM) else { return Ok(Default::default()) };
        let claim = claim.as_object().ok_or(BAD)?;
        let mut tags = BTreeMap::new();
        if let Some(principal) = claim.get("principal_tags") {
            for (key, value) in principal.as_object().ok_or(BAD)? {
                // A list of one value, or the value.
                let value = match value {
                    Value::String(value) => value,
                    Value::Array(values) => match values.as_slice() {
                        [Value::String(value)] => value,
                        _ => return Err(BAD),
                    },
                    _ => return Err(BAD),
                };
                tags.insert(key.clone(), value.clone());
            }
        }
        let mut transitive = BTreeSet::new();
        if let Some(keys) = claim.get("transitive_tag_keys") {
            for key in keys.as_array().ok_or(BAD)? {
                transitive.insert(key.as_str().ok_or(BAD)?.to_owned());
            }
        }
        Ok((tags, transitive))
    }

    /// AWS takes integers alone.
    fn seconds(&self, name: &'static str) -> Result<Option<i64>, TokenError> {
        match self.claims.get(name) {
            None => Ok(None),
            Some(value) => value.as_i64().map(Some).ok_or(TokenError::BadClaim(name)),
        }
    }

    fn text(&self, name: &'static str) -> Result<Option<String>, TokenError> {
        match self.claims.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(TokenError::BadClaim(name)),
        }
    }

    /// A string or a list of strings.
    fn texts(&self, name: &'static str) -> Result<Vec<String>, TokenError> {
        match self.claims.get(name) {
            None => Ok(Vec::new()),
            Some(Value::String(text)) => Ok(vec![text.clone()]),
            Some(Value::Array(values)) if values.len() <= VALUES_MAX => values
                .iter()
                .map(|value| value.as_str().map(str::to_owned).ok_or(TokenError::BadClaim(name)))
                .collect(),
            Some(_) => Err(TokenError::BadClaim(name)),
        }
    }
}
