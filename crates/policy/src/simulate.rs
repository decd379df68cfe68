//! What `iam:SimulatePrincipalPolicy` and `iam:SimulateCustomPolicy` tell of one action and resource;
//! and the harness that throws arbitrary bytes at parser and conditions.

use std::collections::BTreeSet;

use crate::context::{Context, Keys};
use crate::decide::{Decision, Matched, PolicySet, Verdict, decide};
use crate::document::Kind;
use crate::explain::Question;
use crate::policy::Policy;
use crate::principal::Caller;

#[derive(Clone, Debug, PartialEq)]
pub struct Simulation {
    /// `EvalDecision`, and by layer for `EvalDecisionDetails` and
    /// `PermissionsBoundaryDecisionDetail`.
    pub verdict: Verdict,
    /// `MatchedStatements`. Where a statement stands is told by `Policy::statements()[n].span()`.
    pub matched: Vec<Matched>,
    /// `MissingContextValues`: the keys that the policies look at and the caller did not give.
    pub missing_keys: Vec<String>,
}

impl Verdict {
    /// `EvalDecision`.
    pub fn as_eval_decision(&self) -> &'static str {
        match self.decision {
            Decision::Allowed => "allowed",
            Decision::ExplicitDeny => "explicitDeny",
            Decision::ImplicitDeny => "implicitDeny",
        }
    }
}

pub fn simulate(question: &Question<'_>, set: &PolicySet<'_>) -> Simulation {
    let mut matched = Vec::new();
    let verdict = decide(question, set, Some(&mut matched));
    if verdict.decision == Decision::ExplicitDeny {
        // As AWS does: those that decided.
        let policy_of = |matched: &Matched| set.policy(matched.policy);
        matched.retain(|matched| {
            policy_of(matched)
                .is_some_and(|policy| policy.statements()[matched.statement].effect() == crate::Effect::Deny)
        });
    }
    let mut seen = BTreeSet::new();
    let mut missing_keys = Vec::new();
    for policy in set.policies() {
        for key in policy.context_keys() {
            let lower = key.to_ascii_lowercase();
            if question.context.get(&lower).is_none() && seen.insert(lower) {
                missing_keys.push(key);
            }
        }
    }
    Simulation { verdict, matched, missing_keys }
}

impl<'a> PolicySet<'a> {
    /// Every policy of the set.
    pub fn policies(&self) -> impl Iterator<Item = &'a Policy> + use<'a> {
        let identity = self.identity.unwrap_or_default().iter().map(|policy| &**policy);
        let session = self.session.unwrap_or_default().iter().map(|policy| &**policy);
        let control = self.service_control.iter().flatten().map(|policy| &**policy);
        identity
            .chain(self.boundary)
            .chain(session)
            .chain(control)
            .chain(self.resource.map(|(policy, _)| policy))
    }

    pub fn policy(&self, id: crate::PolicyId) -> Option<&'a Policy> {
        use crate::Layer;
        match id.layer {
            Layer::Identity => self.identity.unwrap_or_default().get(id.number).map(|policy| &**policy),
            Layer::Boundary => self.boundary,
            Layer::Session => self.session.unwrap_or_default().get(id.number).map(|policy| &**policy),
            Layer::ServiceControl => {
                self.service_control.iter().flatten().nth(id.number).map(|policy| &**policy)
            }
            Layer::Resource | Layer::Trust => self.resource.map(|(policy, _)| policy),
        }
    }
}

/// Fuzz target: parses the bytes as a policy of each kind and decides with whatever comes out. The
/// first line that is no policy's is the value of every condition key.
pub fn fuzz(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (value, document) = text.split_once('\n').unwrap_or(("", &text));
    let account = "123456789012".parse().unwrap_or(wharf_core::AccountId::DEFAULT);
    let caller =
        Caller::User { account, arn: "arn:aws:iam::123456789012:user/bob".into(), id: "AIDA".into() };
    for kind in [Kind::Identity, Kind::ServiceControl, Kind::Resource, Kind::Trust] {
        let Ok(policy) = Policy::parse(kind, document) else { continue };
        let keys = policy.context_keys();
        let context = keys.iter().fold(Keys::new(), |context, key| {
            if key.len() % 2 == 0 {
                context.with(key, value)
            } else {
                context.with_many(key, value.split(','))
            }
        });
        let question = Question {
            caller: &caller,
            action: "ecs:RunTask",
            resource: value,
            owner: None,
            context: &context as &dyn Context,
        };
        let policies = [std::sync::Arc::new(policy)];
        let of_identity = PolicySet { identity: Some(&policies), ..PolicySet::default() };
        let of_resource = PolicySet {
            identity: Some(&[]),
            resource: Some((&policies[0], crate::ResourceAccess::Grants)),
            ..PolicySet::default()
        };
        for set in [of_identity, of_resource] {
            let simulation = simulate(&question, &set);
            assert_eq!(simulation.verdict, decide(&question, &set, None), "tracing changes nothing");
        }
    }
}
