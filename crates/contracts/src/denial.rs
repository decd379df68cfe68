//! Why a request was denied, for those alone who may know.

use wharf_core::AccountId;

/// Makes the "Encoded authorization failure message" that EC2's denials carry. Implemented by STS,
/// which decodes it again.
pub trait DenialEncoder: Send + Sync {
    /// `details`: JSON. The message can be decoded in `account` alone. `None` when it would be too
    /// long.
    fn encode(&self, account: AccountId, details: &str) -> Option<String>;
}
