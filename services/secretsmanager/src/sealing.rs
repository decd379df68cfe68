//! Values, sealed and opened.

use wharf_contracts::KmsKey;
use wharf_core::{ApiError, Scope};
use wharf_secretsmanager_api::errors;
use wharf_state::Record as _;
use wharf_vault::{DataKey, Sealed, Vault};

use crate::records::{Form, KeyName, Version};

const PURPOSE: &str = "secretsmanager.secret";
/// The key of a secret that names none, and the two ways to name it.
const DEFAULT_ALIAS: &str = "alias/aws/secretsmanager";

/// The largest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 65_536;

/// A value in clear, on its way. No `Debug`: see [`wharf_vault::Secret`].
#[derive(Clone)]
pub struct Value {
    pub form: Form,
    pub secret: wharf_vault::Secret,
}

impl Value {
    /// What a request gives: text, bytes or nothing.
    ///
    /// # Errors
    /// When both are given, or the value is too large.
    pub fn from_request(text: Option<String>, binary: Option<Vec<u8>>) -> Result<Option<Self>, ApiError> {
        let value = match (text, binary) {
            (Some(_), Some(_)) => {
                return Err(errors::invalid_parameter_exception(
                    "You can't specify both a binary secret value and a string secret value in the same secret.",
                ));
            }
            (Some(text), None) => {
                Self { form: Form::Text, secret: wharf_vault::Secret::new(text.into_bytes()) }
            }
            (None, Some(bytes)) => Self { form: Form::Binary, secret: wharf_vault::Secret::new(bytes) },
            (None, None) => return Ok(None),
        };
        if value.secret.expose().len() > VALUE_BYTES_MAX {
            let member = if value.form == Form::Text { "secretString" } else { "secretBinary" };
            return Err(crate::validation(format!(
                "1 validation error detected: Value at '{member}' failed to satisfy constraint: Member must have \
                 length less than or equal to {VALUE_BYTES_MAX}"
            )));
        }
        Ok(Some(value))
    }

    pub fn equals(&self, other: &Self) -> bool {
        use subtle::ConstantTimeEq as _;
        self.form == other.form && bool::from(self.secret.expose().ct_eq(other.secret.expose()))
    }
}

/// The sealed value of a record does not open.
#[derive(Debug, thiserror::Error)]
#[error("the version {id} of the secret {name:?} cannot be opened")]
struct Unreadable {
    name: String,
    id: String,
    #[source]
    source: wharf_vault::UnsealError,
}

/// The KMS key that a request names; `None` for `aws/secretsmanager`, which an empty text means too.
///
/// # Errors
/// `InvalidParameterException` for a text that names no key.
pub fn key_name(given: Option<&str>, scope: &Scope) -> Result<Option<KeyName>, ApiError> {
    let Some(given) = given.filter(|given| !given.is_empty()) else { return Ok(None) };
    let key = KmsKey::parse(given, scope)
        .map_err(|_| errors::invalid_parameter_exception(format!("Invalid KmsKeyId '{given}'")))?;
    if key.arn.ends_with(&format!(":{}:{DEFAULT_ALIAS}", scope.account)) {
        return Ok(None);
    }
    Ok(Some(KeyName { given: key.given, arn: key.arn }))
}

/// Seals `value` for its place in `version`.
pub fn seal(vault: &Vault, version: &Version, value: &Value) -> Sealed {
    data_key(vault, version).seal(&place(version), value.secret.expose()).into()
}

/// # Errors
/// An internal one, whose cause names the secret and not its value.
pub fn unseal(vault: &Vault, version: &Version) -> Result<Value, ApiError> {
    let opened = data_key(vault, version).unseal(&place(version), version.value.as_bytes());
    opened.map(|bytes| Value { form: version.form, secret: bytes.into() }).map_err(|source| {
        ApiError::internal(Unreadable { name: version.name.clone(), id: version.id.clone(), source })
    })
}

fn data_key(vault: &Vault, version: &Version) -> DataKey {
    let Scope { account, region } = &version.scope;
    let key = version.key.as_ref().map_or("", |key| key.arn.as_str());
    vault.data_key(PURPOSE, &format!("{account} {region} {key}"))
}

/// What a sealed value is bound to: it opens in no other secret and no other version.
fn place(version: &Version) -> Vec<u8> {
    use wharf_state::Key as _;
    let mut place = version.key().to_bytes();
    version.suffix.encode(&mut place);
    place
}
