//! May this principal do this to these resources?

use wharf_core::{Principal, RequestContext};

/// What the pipeline asks before a handler runs.
pub struct AuthorizationRequest<'a> {
    pub context: &'a RequestContext,
    /// The IAM action, such as `ecs:RunTask`.
    pub action: &'a str,
    /// The ARNs that the operation touches; `*` when it touches none in particular.
    pub resources: &'a [String],
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Allow,
    /// With AWS's sentence: `User: … is not authorized to perform: … because …`.
    Deny {
        message: String,
    },
}

pub trait Authorizer: Send + Sync {
    fn decide(&self, request: &AuthorizationRequest<'_>) -> Decision;
}

/// The authorizer of a platform that knows no principal but the root users of its accounts: the
/// root of an account may do all in it. A new kind of [`Principal`] does not compile until it has
/// been decided on here.
#[derive(Clone, Copy, Debug, Default)]
pub struct RootOnly;

impl Authorizer for RootOnly {
    fn decide(&self, request: &AuthorizationRequest<'_>) -> Decision {
        match &request.context.principal {
            Principal::Root { account } if *account == request.context.account() => Decision::Allow,
            principal @ Principal::Root { .. } => Decision::Deny {
                message: format!(
                    "User: {} is not authorized to perform: {}",
                    principal.arn(request.context.partition()),
                    request.action
                ),
            },
        }
    }
}
