//! Why a signature is refused, and what each protocol calls it.

use wharf_contracts::CredentialError;
use wharf_core::ApiError;
use wharf_shape::Protocol;

/// A refusal, in AWS's words but without the code and status, which depend on the protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    #[error("the request is not signed")]
    Missing,
    /// The signature cannot be read.
    #[error("{message}")]
    Incomplete { message: String },
    /// The access key is not known or not active, or comes with a token that is not its own.
    #[error("the access key or its session token is not known")]
    UnknownKey,
    /// The temporary credentials are over.
    #[error("the session token is expired")]
    ExpiredToken,
    /// The signature itself is too old or not yet valid.
    #[error("{message}")]
    Expired { message: String },
    /// The signature was made for another service, region or day, or leaves out what it must cover.
    #[error("{message}")]
    Scope { message: String },
    #[error("the signature does not match")]
    Mismatch,
    /// A form of payload that Wharf does not read.
    #[error("the payload form {form} is not implemented")]
    PayloadForm { form: String },
}

impl From<CredentialError> for SignatureError {
    fn from(error: CredentialError) -> Self {
        match error {
            // AWS does not tell these apart, so that a caller learns nothing of keys not its own.
            CredentialError::Unknown | CredentialError::Inactive | CredentialError::InvalidToken => {
                Self::UnknownKey
            }
            CredentialError::Expired => Self::ExpiredToken,
        }
    }
}

/// AWS's sentence for a signature that is not the expected one.
const MISMATCH: &str = "The request signature we calculated does not match the signature you provided. \
     Check your AWS Secret Access Key and signing method. Consult the service documentation for details.";

impl SignatureError {
    /// The error that a caller of this protocol sees. The JSON protocols answer with the codes of
    /// "Common errors" in their API references and status 400 (REST: 403); the Query protocols
    /// with status 403; EC2 folds what is wrong with a credential into `AuthFailure`, status 401.
    pub fn to_api_error(&self, protocol: Protocol) -> ApiError {
        match protocol {
            Protocol::Query => self.query(),
            Protocol::Ec2Query => self.ec2(),
            _ => self.json(),
        }
    }

    fn json(&self) -> ApiError {
        match self {
            Self::Missing => {
                ApiError::sender("MissingAuthenticationTokenException", "Missing Authentication Token")
            }
            Self::Incomplete { message } => ApiError::sender("IncompleteSignatureException", message.clone()),
            Self::UnknownKey => ApiError::sender(
                "UnrecognizedClientException",
                "The security token included in the request is invalid.",
            ),
            Self::ExpiredToken => ApiError::sender(
                "ExpiredTokenException",
                "The security token included in the request is expired",
            ),
            Self::Expired { message } | Self::Scope { message } => {
                ApiError::sender("InvalidSignatureException", message.clone())
            }
            Self::Mismatch => ApiError::sender("InvalidSignatureException", MISMATCH),
            Self::PayloadForm { form } => not_implemented(form),
        }
    }

    fn query(&self) -> ApiError {
        match self {
            Self::Missing => {
                ApiError::sender("MissingAuthenticationToken", "Request is missing Authentication Token")
                    .with_status(403)
            }
            Self::Incomplete { message } => ApiError::sender("IncompleteSignature", message.clone()),
            Self::UnknownKey => ApiError::sender(
                "InvalidClientTokenId",
                "The security token included in the request is invalid.",
            )
            .with_status(403),
            Self::ExpiredToken => {
                ApiError::sender("ExpiredToken", "The security token included in the request is expired")
                    .with_status(403)
            }
            Self::Expired { message } | Self::Scope { message } => {
                ApiError::sender("SignatureDoesNotMatch", message.clone()).with_status(403)
            }
            Self::Mismatch => ApiError::sender("SignatureDoesNotMatch", MISMATCH).with_status(403),
            Self::PayloadForm { form } => not_implemented(form),
        }
    }

    fn ec2(&self) -> ApiError {
        match self {
            Self::Missing => {
                ApiError::sender("MissingParameter", "The request must contain the parameter AWSAccessKeyId")
            }
            Self::Incomplete { message } => ApiError::sender("IncompleteSignature", message.clone()),
            Self::ExpiredToken | Self::Expired { .. } => {
                ApiError::sender("RequestExpired", "Request has expired.")
            }
            Self::UnknownKey | Self::Mismatch => ApiError::sender(
                "AuthFailure",
                "AWS was not able to validate the provided access credentials",
            )
            .with_status(401),
            Self::Scope { message } => ApiError::sender("AuthFailure", message.clone()).with_status(401),
            Self::PayloadForm { form } => not_implemented(form),
        }
    }
}

fn not_implemented(form: &str) -> ApiError {
    ApiError::not_implemented(format!("the payload form {form} of a signature"))
}
