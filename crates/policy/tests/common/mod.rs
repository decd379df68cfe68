//! Short words for tests: a user, a session, a question, an answer.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::sync::Arc;

use wharf_policy::{
    Caller, Decision, Keys, Kind, Layer, Policy, PolicySet, Question, ResourceAccess, Verdict, decide,
    sentence,
};

pub const ACCOUNT: &str = "123456789012";
pub const OTHER: &str = "999999999999";

pub fn user() -> Caller {
    Caller::User {
        account: ACCOUNT.parse().unwrap(),
        arn: format!("arn:aws:iam::{ACCOUNT}:user/Carlos"),
        id: "AIDACKCEVSQ6C2EXAMPLE".into(),
    }
}

pub fn session() -> Caller {
    Caller::RoleSession {
        account: ACCOUNT.parse().unwrap(),
        session_arn: format!("arn:aws:sts::{ACCOUNT}:assumed-role/Deploy/ci"),
        role_arn: format!("arn:aws:iam::{ACCOUNT}:role/Deploy"),
        role_id: "AROACKCEVSQ6C2EXAMPLE".into(),
        federated_provider: None,
    }
}

pub fn identity(document: &str) -> Arc<Policy> {
    Arc::new(Policy::parse(Kind::Identity, document).unwrap_or_else(|error| panic!("{error}: {document}")))
}

pub fn resource(document: &str) -> Policy {
    Policy::parse(Kind::Resource, document).unwrap_or_else(|error| panic!("{error}: {document}"))
}

/// One statement of version 2012-10-17.
pub fn statement(effect: &str, action: &str, resource: &str, condition: &str) -> String {
    format!(
        r#"{{"Version":"2012-10-17","Statement":{{"Effect":"{effect}","Action":"{action}","Resource":"{resource}","Condition":{condition}}}}}"#
    )
}

pub fn allow(action: &str, resource: &str) -> Arc<Policy> {
    identity(&statement("Allow", action, resource, "{}"))
}

/// Whether the policies of a user let it.
pub fn allowed(policies: &[Arc<Policy>], action: &str, resource: &str, keys: &Keys) -> bool {
    let caller = user();
    let question = Question { caller: &caller, action, resource, owner: None, context: keys };
    let set = PolicySet { identity: Some(policies), ..PolicySet::default() };
    decide(&question, &set, None).decision == Decision::Allowed
}

/// Whether a condition on a statement that allows everything holds.
pub fn holds(condition: &str, keys: &Keys) -> bool {
    allowed(&[identity(&statement("Allow", "*", "*", condition))], "ecs:RunTask", "*", keys)
}

/// A case of the evaluation logic: who asks, whose resource it is, which layers there are.
#[derive(Clone)]
pub struct Case {
    pub caller: Caller,
    pub owner: &'static str,
    pub identity: Vec<Arc<Policy>>,
    pub boundary: Option<Arc<Policy>>,
    pub session: Option<Vec<Arc<Policy>>>,
    pub service_control: Vec<Vec<Arc<Policy>>>,
    pub resource: Option<(Arc<Policy>, ResourceAccess)>,
}

impl Case {
    pub fn of(caller: Caller) -> Self {
        Self {
            caller,
            owner: ACCOUNT,
            identity: Vec::new(),
            boundary: None,
            session: None,
            service_control: Vec::new(),
            resource: None,
        }
    }

    pub fn verdict(&self) -> (Verdict, String) {
        let keys = Keys::new();
        let question = Question {
            caller: &self.caller,
            action: "s3:GetObject",
            resource: "arn:aws:s3:::bucket/key",
            owner: Some(self.owner.parse().unwrap()),
            context: &keys,
        };
        let set = PolicySet {
            identity: Some(&self.identity),
            boundary: self.boundary.as_deref(),
            session: self.session.as_deref(),
            service_control: &self.service_control,
            resource: self.resource.as_ref().map(|(policy, access)| (&**policy, *access)),
        };
        let verdict = decide(&question, &set, None);
        (verdict, sentence(&question, &verdict))
    }

    pub fn allowed(&self) -> bool {
        self.verdict().0.decision == Decision::Allowed
    }

    /// Which layer denies, and whether it says so.
    pub fn denied(&self) -> Option<(Decision, Layer)> {
        let verdict = self.verdict().0;
        (verdict.decision != Decision::Allowed).then_some((verdict.decision, verdict.layer))
    }
}
