//! May this principal do this to these resources?

use wharf_core::{Principal, RequestContext};

use crate::authorization::Check;

/// What the pipeline asks before a handler runs, and a service that acts for a principal (an image
/// pulled with a task's execution role) before it does.
pub struct AuthorizationRequest<'a> {
    pub context: &'a RequestContext,
    /// All must be allowed. None at all is denied.
    pub checks: &'a [Check],
    pub facts: &'a RequestFacts<'a>,
}

/// What is known of the HTTP request, for the global condition keys.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestFacts<'a> {
    /// `aws:UserAgent`
    pub user_agent: Option<&'a str>,
    /// `aws:Referer`
    pub referer: Option<&'a str>,
    /// `aws:SecureTransport`
    pub transport: Transport,
    /// `aws:CalledVia`: the services, first to last, that made the call on behalf of the principal.
    /// Empty for a call of the principal's own.
    pub called_via: &'a [&'a str],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    #[default]
    Plain,
    Tls,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Allow,
    Deny(Box<Denial>),
}

/// Why not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Denial {
    /// AWS's sentence: `User: … is not authorized to perform: … on resource: … because …`.
    pub message: String,
    /// The JSON that `sts:DecodeAuthorizationMessage` shows; empty when nobody was asked.
    pub details: String,
}

impl Decision {
    pub fn deny(message: impl Into<String>) -> Self {
        Self::Deny(Box::new(Denial { message: message.into(), details: String::new() }))
    }
}

pub trait Authorizer: Send + Sync {
    fn decide(&self, request: &AuthorizationRequest<'_>) -> Decision;
}

/// The authorizer of a platform that knows no principal but the root users of its accounts: the
/// root of an account may do all in it, and nothing in another.
#[derive(Clone, Copy, Debug, Default)]
pub struct RootOnly;

impl Authorizer for RootOnly {
    fn decide(&self, request: &AuthorizationRequest<'_>) -> Decision {
        let context = request.context;
        let is_root = matches!(context.principal, Principal::Root { .. });
        let denied = request.checks.iter().find_map(|check| {
            let foreign = |owner| !is_root || owner != context.principal.account();
            check.resources.iter().find(|resource| foreign(resource.owner)).map(|resource| (check, resource))
        });
        match denied {
            None if !request.checks.is_empty() => Decision::Allow,
            None => Decision::deny("nothing was asked for"),
            Some((check, resource)) => Decision::deny(format!(
                "User: {} is not authorized to perform: {} on resource: {}",
                context.principal.arn(context.partition()),
                check.action,
                resource.arn
            )),
        }
    }
}
