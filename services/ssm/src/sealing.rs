//! Values, sealed and opened.

use wharf_contracts::KmsKey;
use wharf_core::{ApiError, Scope};
use wharf_ssm_api::errors;
use wharf_state::Key as _;
use wharf_vault::{DataKey, Sealed, Secret};

use crate::Ssm;
use crate::records::{KeyName, ParameterVersion};

const PURPOSE: &str = "ssm.parameter";
/// The key of a `SecureString` that names none.
const DEFAULT_KEY: &str = "alias/aws/ssm";

/// The sealed value of a record does not open. The caller hears that something failed; the log hears
/// of which parameter it is.
#[derive(Debug, thiserror::Error)]
#[error("version {version} of the parameter {name:?} cannot be opened")]
struct Unreadable {
    name: String,
    version: u64,
    #[source]
    source: wharf_vault::UnsealError,
}

/// The KMS key that a `SecureString` is sealed with.
///
/// # Errors
/// `InvalidKeyId` for a text that names none.
pub fn key_name(given: Option<&str>, scope: &Scope) -> Result<KeyName, ApiError> {
    let given = given.unwrap_or(DEFAULT_KEY);
    let key = KmsKey::parse(given, scope)
        .map_err(|_| errors::invalid_key_id(format!("Invalid keyId '{given}'")))?;
    Ok(KeyName { given: key.given, arn: key.arn })
}

impl Ssm {
    /// Seals `value` for its place in `version`.
    pub(crate) fn seal(&self, version: &ParameterVersion, value: &str) -> Sealed {
        self.data_key(version).seal(&place(version), value.as_bytes()).into()
    }

    pub(crate) fn unseal(&self, version: &ParameterVersion) -> Result<Secret, ApiError> {
        self.data_key(version).unseal(&place(version), version.value.as_bytes()).map(Secret::from).map_err(
            |source| {
                ApiError::internal(Unreadable {
                    name: version.name.clone(),
                    version: version.version,
                    source,
                })
            },
        )
    }

    fn data_key(&self, version: &ParameterVersion) -> DataKey {
        let Scope { account, region } = &version.scope;
        let key = version.key.as_ref().map_or("", |key| key.arn.as_str());
        self.vault.data_key(PURPOSE, &format!("{account} {region} {key}"))
    }
}

/// What a sealed value is bound to: it opens in no other parameter and no other version.
fn place(version: &ParameterVersion) -> Vec<u8> {
    (version.scope.clone(), version.name.clone(), version.version).to_bytes()
}
