//! The authorizer: every check of every request, decided by the policies that IAM keeps.
//!
//! [`IamAuthorizer`] finds the caller's policies ([`wharf_contracts::IdentityPolicies`]), compiles
//! each once, gives the request's condition keys to whoever looks at them, and lets
//! [`wharf_policy::decide`] decide. A root user is let through in its own account without any of it,
//! unless a resource has a policy of its own. A principal that IAM does not know (any more) may do
//! nothing, and neither may anybody to whom a document applies that cannot be read.
//!
//! Not here: which checks an operation needs (each service's table), what policies mean
//! (`wharf_policy`), who the caller is (`wire`).

#![forbid(unsafe_code)]

mod compiled;
mod keys;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use wharf_contracts::{
    AuthorizationRequest, Authorizer, Check, Decision, Denial, IdentityPolicies, Resource, ResourcePolicyKind,
};
use wharf_core::{Principal, RequestContext};
use wharf_policy::{Caller, Kind, PolicySet, Question, ResourceAccess};

use crate::compiled::{Compiled, Entity, Session};
use crate::keys::RequestKeys;

/// The condition keys that a denied caller may decode (`sts:DecodeAuthorizationMessage`).
const TOLD_KEYS: [&str; 8] = [
    "aws:PrincipalArn",
    "aws:PrincipalAccount",
    "aws:RequestedRegion",
    "aws:ResourceAccount",
    "aws:SourceIp",
    "aws:UserAgent",
    "aws:CurrentTime",
    "aws:SecureTransport",
];

pub struct IamAuthorizer {
    identities: Arc<dyn IdentityPolicies>,
    compiled: Compiled,
}

impl IamAuthorizer {
    pub fn new(identities: Arc<dyn IdentityPolicies>) -> Self {
        Self { identities, compiled: Compiled::default() }
    }
}

impl Authorizer for IamAuthorizer {
    fn decide(&self, request: &AuthorizationRequest<'_>) -> Decision {
        let context = request.context;
        let asked =
            || request.checks.iter().flat_map(|check| check.resources.iter().map(move |of| (check, of)));
        if let Principal::Root { account } = &context.principal {
            let at_home = |resource: &Resource| resource.owner == *account && resource.policy.is_none();
            if asked().next().is_some() && asked().all(|(_, resource)| at_home(resource)) {
                return Decision::Allow;
            }
        }
        let subject = self.subject(context);
        let mut any = false;
        for check in request.checks {
            for resource in &check.resources {
                any = true;
                if let Some(denial) = self.denial(request, &subject, check, resource) {
                    return Decision::Deny(Box::new(denial));
                }
            }
        }
        if any { Decision::Allow } else { Decision::deny("The operation asks for no permission.") }
    }
}

/// The caller and its policies.
struct Subject {
    caller: Caller,
    /// `None`: IAM knows nobody of that id. Roots have no entity and need none.
    entity: Option<Arc<Entity>>,
    session: Session,
}

impl IamAuthorizer {
    fn subject(&self, context: &RequestContext) -> Subject {
        let caller = caller(context);
        let entity = self.compiled.entity(&*self.identities, context);
        let session = self.compiled.session(&*self.identities, context);
        Subject { caller, entity, session }
    }

    /// Why the caller may not do this; `None` when it may.
    fn denial(
        &self,
        request: &AuthorizationRequest<'_>,
        subject: &Subject,
        check: &Check,
        resource: &Resource,
    ) -> Option<Denial> {
        let keys = RequestKeys { request, check, resource, entity: subject.entity.as_deref() };
        let question = Question {
            caller: &subject.caller,
            action: &check.action,
            resource: &resource.arn,
            owner: Some(resource.owner),
            context: &keys,
        };
        // Everybody but a root and nobody is in IAM's records, or has gone.
        let known = subject.entity.is_some() || is_root_or_of_root(request.context);
        let of_resource = match &resource.policy {
            None => Ok(None),
            Some(policy) => {
                let kind = match policy.kind {
                    ResourcePolicyKind::Trust => Kind::Trust,
                    ResourcePolicyKind::Grants | ResourcePolicyKind::Gates => Kind::Resource,
                };
                let access = match policy.kind {
                    ResourcePolicyKind::Grants => ResourceAccess::Grants,
                    ResourcePolicyKind::Gates | ResourcePolicyKind::Trust => ResourceAccess::Gates,
                };
                self.compiled.document(kind, &policy.document).map(|policy| Some((policy, access)))
            }
        };
        let readable = of_resource.is_ok()
            && subject.entity.as_ref().is_none_or(|entity| entity.readable())
            && subject.session.readable();
        let of_resource = of_resource.ok().flatten();
        let set = PolicySet {
            identity: match &subject.entity {
                Some(entity) => Some(&entity.policies),
                None if known => None,
                None => Some(&[]),
            },
            boundary: subject.entity.as_ref().and_then(|entity| entity.boundary.as_deref()),
            session: subject.session.policies(),
            service_control: &[],
            resource: of_resource.as_ref().map(|(policy, access)| (&**policy, *access)),
        };
        let verdict = wharf_policy::decide(&question, &set, None);
        if verdict.decision == wharf_policy::Decision::Allowed && known && readable {
            return None;
        }
        let verdict = if known && readable { verdict } else { wharf_policy::Verdict::nobody() };
        let mut told: Vec<&str> = TOLD_KEYS.to_vec();
        told.extend(check.keys.iter().chain(&resource.keys).map(|key| &*key.name));
        let mut denying = Vec::new();
        if verdict.decision == wharf_policy::Decision::ExplicitDeny {
            for matched in wharf_policy::simulate(&question, &set).matched {
                let policy = set.policy(matched.policy);
                denying.extend(policy.and_then(|policy| policy.statements().get(matched.statement)));
            }
        }
        let principal_id = request.context.principal.user_id();
        Some(Denial {
            message: wharf_policy::sentence(&question, &verdict),
            details: wharf_policy::details(&question, &verdict, &principal_id, &denying, &told),
        })
    }
}

fn is_root_or_of_root(context: &RequestContext) -> bool {
    match &context.principal {
        Principal::Root { .. } => true,
        Principal::FederatedUser { account, .. } => {
            context.session.as_ref().is_some_and(|session| session.issuer_id == account.to_string())
        }
        Principal::User { .. } | Principal::AssumedRole { .. } | Principal::Anonymous => false,
    }
}

/// The caller, under all the names that a `Principal` element may mean it by.
fn caller(context: &RequestContext) -> Caller {
    let partition = context.partition();
    let arn = context.principal.arn(partition);
    match &context.principal {
        Principal::Root { account } => Caller::Root { account: *account, arn },
        Principal::User { account, id, .. } => Caller::User { account: *account, arn, id: id.to_string() },
        Principal::AssumedRole { account, role_id, .. } => Caller::RoleSession {
            account: *account,
            session_arn: arn,
            role_arn: context.principal.principal_arn(partition).unwrap_or_default(),
            role_id: role_id.to_string(),
            federated_provider: context.session.as_ref().and_then(|of| of.federated_provider.clone()),
        },
        Principal::FederatedUser { account, .. } => Caller::FederatedUser {
            account: *account,
            arn,
            issuer_arn: context.session.as_ref().map(|of| of.issuer.clone()).unwrap_or_default(),
        },
        Principal::Anonymous => Caller::Anonymous,
    }
}
