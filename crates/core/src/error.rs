//! The error that an AWS caller sees.
//!
//! A service's own errors are `thiserror` enums that say what went wrong to us; at the handler's
//! edge each becomes an [`ApiError`]: AWS's code, AWS's words, AWS's status. What nobody expected
//! becomes [`ApiError::internal`], whose cause is logged once, with the request id, by the
//! pipeline, and is never sent.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// Whose fault an error is. SDKs retry a server's fault and not a sender's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Sender,
    Receiver,
}

/// An error in AWS's terms.
#[derive(Clone, Debug)]
pub struct ApiError {
    /// The wire code, such as `ClusterNotFoundException` or `InvalidParameterValue`.
    pub code: Cow<'static, str>,
    pub message: String,
    pub status: u16,
    pub fault: Fault,
    /// Modelled members beside the message, such as `resourceIds` of an ECS error: (wire name, value).
    pub members: Vec<(&'static str, String)>,
    /// For us alone; never sent.
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl ApiError {
    /// The sender's error, status 400, unless [`ApiError::with_status`] says otherwise.
    pub fn sender(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
            status: 400,
            fault: Fault::Sender,
            members: Vec::new(),
            source: None,
        }
    }

    /// The service's error, status 500.
    pub fn receiver(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { status: 500, fault: Fault::Receiver, ..Self::sender(code, message) }
    }

    /// Something nobody expected. The caller sees `InternalFailure`; the cause goes to the log.
    pub fn internal(source: impl Error + Send + Sync + 'static) -> Self {
        Self {
            source: Some(Arc::new(source)),
            ..Self::receiver(
                "InternalFailure",
                "The request processing has failed because of an unknown error, exception or failure.",
            )
        }
    }

    /// An operation or a field that Wharf does not do. `what` names it: `ecs:CreateService` or
    /// `the field "proxyConfiguration" of ecs:RegisterTaskDefinition`.
    pub fn not_implemented(what: impl fmt::Display) -> Self {
        Self { status: 501, ..Self::sender("NotImplemented", format!("Wharf does not implement {what}.")) }
    }

    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    #[must_use]
    pub fn with_member(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.members.push((name, value.into()));
        self
    }

    /// The chain of causes below an internal error, for the log.
    pub fn cause(&self) -> Option<&(dyn Error + Send + Sync + 'static)> {
        self.source.as_deref()
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.code, self.message)
    }
}

impl Error for ApiError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| &**source as &(dyn Error + 'static))
    }
}
