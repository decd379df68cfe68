//! What a set of policies decides about a request.
//!
//! IAM User Guide, "Policy evaluation logic", "Cross-account policy evaluation logic" and "Evaluating
//! effective permissions with boundaries". An explicit deny anywhere wins. Then, in the resource's own
//! account, identity policies within boundary, session policies and service control policies are
//! enough, or a resource policy: one that means the very caller is narrowed by none of these, one
//! that means the role behind a session is narrowed by boundary and session policies, one that means
//! the account leaves it to the account's own policies. From another account both sides must allow.

use std::sync::Arc;

use crate::context::Context;
use crate::explain::Question;
use crate::policy::{Effect, Policy};
use crate::principal::Caller;

pub use crate::principal::ResourceGrant;

/// Which policies there are for a caller and a resource.
#[derive(Clone, Copy, Default)]
pub struct PolicySet<'a> {
    /// `None` for a root user, who may do all that nothing else forbids.
    pub identity: Option<&'a [Arc<Policy>]>,
    /// `None`: no boundary.
    pub boundary: Option<&'a Policy>,
    /// `None`: the session is not narrowed. Empty: it may do nothing by its identity policies.
    pub session: Option<&'a [Arc<Policy>]>,
    /// The service control policies of each level, from the root of the organization to the account;
    /// each level must allow.
    pub service_control: &'a [Vec<Arc<Policy>>],
    pub resource: Option<(&'a Policy, ResourceAccess)>,
}

/// What a resource policy is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceAccess {
    /// In the resource's own account identity policies are enough without it.
    Grants,
    /// Nobody gets in without it: KMS keys, role trust policies.
    Gates,
}

/// Where in a [`PolicySet`] something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Layer {
    ServiceControl,
    Resource,
    /// The resource policy of a role.
    Trust,
    Identity,
    Boundary,
    Session,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Allowed,
    ExplicitDeny,
    ImplicitDeny,
}

/// A policy of a [`PolicySet`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PolicyId {
    pub layer: Layer,
    /// Its number in its layer; of service control policies, counted over all levels.
    pub number: usize,
}

/// A statement that meant the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Matched {
    pub policy: PolicyId,
    pub statement: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub decision: Decision,
    /// Which layer allowed, forbade, or should have allowed.
    pub layer: Layer,
    /// What each layer says by itself; `None` when there is none.
    pub identity: Decision,
    pub boundary: Option<Decision>,
    pub session: Option<Decision>,
    pub service_control: Option<Decision>,
    pub resource: Option<Decision>,
}

/// Decides. Statements that meant the request are added to `matched`, if it is given.
pub fn decide(question: &Question<'_>, set: &PolicySet<'_>, matched: Option<&mut Vec<Matched>>) -> Verdict {
    let mut looking = Looking::new(question, matched);
    let identity = match set.identity {
        None => Decision::Allowed,
        Some(policies) => looking.layer(Layer::Identity, policies.iter().map(|policy| &**policy)),
    };
    let boundary = set.boundary.map(|policy| looking.layer(Layer::Boundary, [policy]));
    let session =
        set.session.map(|policies| looking.layer(Layer::Session, policies.iter().map(|policy| &**policy)));
    let service_control =
        (!set.service_control.is_empty()).then(|| looking.service_control(set.service_control));
    let (resource, grant) = match set.resource {
        None => (None, None),
        Some((policy, _)) => looking.resource_policy(policy),
    };
    let resource_layer = set.resource.map_or(Layer::Resource, |(policy, _)| resource_layer(policy));

    let verdict =
        |decision, layer| Verdict { decision, layer, identity, boundary, session, service_control, resource };
    let layers = [
        (service_control, Layer::ServiceControl),
        (resource, resource_layer),
        (Some(identity), Layer::Identity),
        (boundary, Layer::Boundary),
        (session, Layer::Session),
    ];
    for (decision, layer) in layers {
        if decision == Some(Decision::ExplicitDeny) {
            return verdict(Decision::ExplicitDeny, layer);
        }
    }
    let lacks = |decision: Option<Decision>, layer| {
        (decision == Some(Decision::ImplicitDeny)).then(|| verdict(Decision::ImplicitDeny, layer))
    };
    let narrowed = || lacks(boundary, Layer::Boundary).or_else(|| lacks(session, Layer::Session));
    let own_side = || lacks(Some(identity), Layer::Identity).or_else(narrowed);

    let Some(account) = question.caller.account() else {
        return match grant {
            Some(ResourceGrant::Direct | ResourceGrant::Entity) => verdict(Decision::Allowed, resource_layer),
            Some(ResourceGrant::Account) | None => verdict(Decision::ImplicitDeny, resource_layer),
        };
    };
    if let Some(denied) = lacks(service_control, Layer::ServiceControl) {
        return denied;
    }
    let gated = set.resource.is_some_and(|(_, access)| access == ResourceAccess::Gates);
    if question.owner.is_none_or(|owner| owner == account) {
        return match grant {
            Some(ResourceGrant::Direct) => verdict(Decision::Allowed, resource_layer),
            Some(ResourceGrant::Entity) => {
                narrowed().unwrap_or_else(|| verdict(Decision::Allowed, resource_layer))
            }
            None if gated => verdict(Decision::ImplicitDeny, resource_layer),
            Some(ResourceGrant::Account) | None => {
                own_side().unwrap_or_else(|| verdict(Decision::Allowed, Layer::Identity))
            }
        };
    }
    if let Some(denied) = own_side() {
        return denied;
    }
    match grant {
        Some(_) => verdict(Decision::Allowed, resource_layer),
        None => verdict(Decision::ImplicitDeny, resource_layer),
    }
}

impl Verdict {
    /// Of a caller that nothing is known of (any more).
    pub fn nobody() -> Self {
        Self {
            decision: Decision::ImplicitDeny,
            layer: Layer::Identity,
            identity: Decision::ImplicitDeny,
            boundary: None,
            session: None,
            service_control: None,
            resource: None,
        }
    }
}

fn resource_layer(policy: &Policy) -> Layer {
    if policy.kind() == crate::Kind::Trust { Layer::Trust } else { Layer::Resource }
}

/// One walk over the policies for one question.
struct Looking<'a, 'q> {
    caller: &'q Caller,
    /// In lower case.
    action: String,
    service_length: usize,
    resource: &'q str,
    context: &'q dyn Context,
    matched: Option<&'a mut Vec<Matched>>,
}

impl<'a, 'q> Looking<'a, 'q> {
    fn new(question: &Question<'q>, matched: Option<&'a mut Vec<Matched>>) -> Self {
        let action = question.action.to_ascii_lowercase();
        Self {
            caller: question.caller,
            service_length: action.find(':').unwrap_or(action.len()),
            action,
            resource: question.resource,
            context: question.context,
            matched,
        }
    }

    fn layer<'p>(&mut self, layer: Layer, policies: impl IntoIterator<Item = &'p Policy>) -> Decision {
        self.numbered(layer, policies.into_iter().enumerate())
    }

    fn numbered<'p>(
        &mut self,
        layer: Layer,
        policies: impl IntoIterator<Item = (usize, &'p Policy)>,
    ) -> Decision {
        let mut decision = Decision::ImplicitDeny;
        for (number, policy) in policies {
            for (statement, of) in policy.candidates(&self.action[..self.service_length]) {
                // What has been found already need not be found again.
                let known = decision == Decision::Allowed && of.effect == Effect::Allow;
                if known && self.matched.is_none() {
                    continue;
                }
                if !of.applies(&self.action, self.resource, self.context) {
                    continue;
                }
                let policy = PolicyId { layer, number };
                match &mut self.matched {
                    Some(matched) => matched.push(Matched { policy, statement }),
                    None if of.effect == Effect::Deny => return Decision::ExplicitDeny,
                    None => {}
                }
                decision = match of.effect {
                    Effect::Deny => Decision::ExplicitDeny,
                    Effect::Allow if decision == Decision::ImplicitDeny => Decision::Allowed,
                    Effect::Allow => decision,
                };
            }
        }
        decision
    }

    fn service_control(&mut self, levels: &[Vec<Arc<Policy>>]) -> Decision {
        let mut decision = Decision::Allowed;
        let mut first = 0;
        for level in levels {
            let policies = level.iter().enumerate().map(|(number, policy)| (first + number, &**policy));
            match self.numbered(Layer::ServiceControl, policies) {
                Decision::ExplicitDeny => return Decision::ExplicitDeny,
                Decision::ImplicitDeny => decision = Decision::ImplicitDeny,
                Decision::Allowed => {}
            }
            first += level.len();
        }
        decision
    }

    fn resource_policy(&mut self, policy: &Policy) -> (Option<Decision>, Option<ResourceGrant>) {
        let mut grant = None;
        let mut denied = false;
        let layer = resource_layer(policy);
        for (statement, of) in policy.candidates(&self.action[..self.service_length]) {
            let Some(principals) = &of.principals else { continue };
            let given = match of.effect {
                Effect::Deny if !principals.denies(self.caller) => continue,
                Effect::Deny => None,
                Effect::Allow => match principals.grant(self.caller) {
                    Some(given) => Some(given),
                    None => continue,
                },
            };
            if !of.applies(&self.action, self.resource, self.context) {
                continue;
            }
            denied |= of.effect == Effect::Deny;
            grant = grant.max(given);
            if let Some(matched) = &mut self.matched {
                matched.push(Matched { policy: PolicyId { layer, number: 0 }, statement });
            }
        }
        let decision = match grant {
            _ if denied => Decision::ExplicitDeny,
            Some(_) => Decision::Allowed,
            None => Decision::ImplicitDeny,
        };
        (Some(decision), grant)
    }
}
