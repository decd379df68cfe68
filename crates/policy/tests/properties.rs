//! What holds of all policies: a deny wins, more permissions never take one away, order does not
//! matter, tracing changes nothing.

mod common;

use std::sync::Arc;

use common::{OTHER, session, user};
use proptest::prelude::*;
use wharf_policy::{
    Caller, Decision, Keys, Kind, Policy, PolicySet, Question, ResourceAccess, decide, simulate,
};

/// A statement as JSON, with its principal for resource policies.
#[derive(Clone, Debug)]
struct Statement {
    effect: &'static str,
    action: String,
    resource: String,
    condition: String,
    principal: String,
}

impl Statement {
    fn json(&self, kind: Kind) -> String {
        let principal = match kind {
            Kind::Resource => format!(r#""Principal":{},"#, self.principal),
            _ => String::new(),
        };
        format!(
            r#"{{"Effect":"{}",{principal}{},{},"Condition":{}}}"#,
            self.effect, self.action, self.resource, self.condition
        )
    }
}

fn statements() -> impl Strategy<Value = Statement> {
    let action = prop::sample::select(vec![
        r#""Action":"*""#,
        r#""Action":"ecs:*""#,
        r#""Action":["ecs:Run*","s3:Get*"]"#,
        r#""Action":"ECS:runtask""#,
        r#""Action":"s3:*""#,
        r#""NotAction":"ecs:RunTask""#,
        r#""NotAction":["iam:*"]"#,
    ]);
    let resource = prop::sample::select(vec![
        r#""Resource":"*""#,
        r#""Resource":"arn:aws:ecs:*:123456789012:task-definition/*""#,
        r#""Resource":["arn:aws:ecs:us-east-1:*:task-definition/web:?"]"#,
        r#""Resource":"arn:aws:ecs:*:*:task-definition/${aws:username}:*""#,
        r#""NotResource":"arn:aws:ecs:*:*:cluster/*""#,
        r#""NotResource":"arn:aws:ecs:*""#,
    ]);
    let condition = prop::sample::select(vec![
        "{}",
        r#"{"StringEquals":{"aws:PrincipalTag/team":"blue"}}"#,
        r#"{"StringNotEquals":{"aws:PrincipalTag/team":"blue"}}"#,
        r#"{"ForAnyValue:StringLike":{"aws:TagKeys":["t*"]}}"#,
        r#"{"Bool":{"aws:SecureTransport":"true"}}"#,
        r#"{"NumericLessThanIfExists":{"aws:MultiFactorAuthAge":"60"}}"#,
    ]);
    let principal = prop::sample::select(vec![
        r#""*""#,
        r#"{"AWS":"123456789012"}"#,
        r#"{"AWS":"arn:aws:iam::123456789012:user/Carlos"}"#,
        r#"{"AWS":"arn:aws:iam::123456789012:role/Deploy"}"#,
        r#"{"AWS":["arn:aws:sts::123456789012:assumed-role/Deploy/ci","999999999999"]}"#,
        r#"{"Service":"ecs.amazonaws.com"}"#,
    ]);
    (prop::sample::select(vec!["Allow", "Allow", "Deny"]), action, resource, condition, principal).prop_map(
        |(effect, action, resource, condition, principal)| Statement {
            effect,
            action: action.to_owned(),
            resource: resource.to_owned(),
            condition: condition.to_owned(),
            principal: principal.to_owned(),
        },
    )
}

fn policy(kind: Kind, statements: &[Statement]) -> Policy {
    let statements: Vec<String> = statements.iter().map(|statement| statement.json(kind)).collect();
    let document = format!(r#"{{"Version":"2012-10-17","Statement":[{}]}}"#, statements.join(","));
    Policy::parse(kind, &document).unwrap_or_else(|error| panic!("{error}: {document}"))
}

/// All that a decision depends on.
#[derive(Clone, Debug)]
struct Situation {
    caller: Caller,
    abroad: bool,
    identity: Vec<Vec<Statement>>,
    boundary: Option<Vec<Statement>>,
    session: Option<Vec<Statement>>,
    control: Option<Vec<Statement>>,
    resource: Option<Vec<Statement>>,
    gates: bool,
    keys: Keys,
}

fn some_statements() -> impl Strategy<Value = Vec<Statement>> {
    prop::collection::vec(statements(), 1..4)
}

fn situations() -> impl Strategy<Value = Situation> {
    let keys = (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(team, tags, transport)| {
        let mut keys = Keys::new().with("aws:username", "web");
        if team {
            keys = keys.with("aws:PrincipalTag/team", "blue");
        }
        if tags {
            keys = keys.with_many("aws:TagKeys", ["team", "stage"]);
        }
        keys.with("aws:SecureTransport", if transport { "true" } else { "false" })
    });
    (
        prop::sample::select(vec![user(), session(), Caller::Service("ecs.amazonaws.com".into())]),
        any::<bool>(),
        prop::collection::vec(some_statements(), 0..3),
        prop::option::of(some_statements()),
        prop::option::of(some_statements()),
        prop::option::weighted(0.3, some_statements()),
        prop::option::of(some_statements()),
        any::<bool>(),
        keys,
    )
        .prop_map(|(caller, abroad, identity, boundary, session, control, resource, gates, keys)| {
            Situation { caller, abroad, identity, boundary, session, control, resource, gates, keys }
        })
}

impl Situation {
    fn decision(&self) -> Decision {
        let compile = |statements: &Vec<Statement>| Arc::new(policy(Kind::Identity, statements));
        let identity: Vec<Arc<Policy>> = self.identity.iter().map(compile).collect();
        let boundary = self.boundary.as_ref().map(compile);
        let session: Option<Vec<Arc<Policy>>> = self.session.as_ref().map(|of| vec![compile(of)]);
        let control: Vec<Vec<Arc<Policy>>> = self.control.iter().map(|of| vec![compile(of)]).collect();
        let resource = self.resource.as_ref().map(|of| policy(Kind::Resource, of));
        let access = if self.gates { ResourceAccess::Gates } else { ResourceAccess::Grants };
        let question = Question {
            caller: &self.caller,
            action: "ecs:RunTask",
            resource: "arn:aws:ecs:us-east-1:123456789012:task-definition/web:1",
            owner: Some(if self.abroad { OTHER } else { common::ACCOUNT }.parse().unwrap()),
            context: &self.keys,
        };
        let set = PolicySet {
            identity: Some(&identity),
            boundary: boundary.as_deref(),
            session: session.as_deref(),
            service_control: &control,
            resource: resource.as_ref().map(|policy| (policy, access)),
        };
        let verdict = decide(&question, &set, None);
        let simulation = simulate(&question, &set);
        assert_eq!(simulation.verdict, verdict, "tracing changes nothing");
        for matched in &simulation.matched {
            assert!(set.policy(matched.policy).is_some_and(|of| matched.statement < of.statements().len()));
        }
        verdict.decision
    }

    fn allowed(&self) -> bool {
        self.decision() == Decision::Allowed
    }
}

fn deny_all() -> Statement {
    Statement {
        effect: "Deny",
        action: r#""Action":"*""#.into(),
        resource: r#""Resource":"*""#.into(),
        condition: "{}".into(),
        principal: r#""*""#.into(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_deny_in_any_layer_wins(situation in situations(), layer in 0..5) {
        let mut denied = situation;
        match layer {
            0 => denied.identity.push(vec![deny_all()]),
            1 => denied.boundary.get_or_insert_default().push(deny_all()),
            2 => denied.session.get_or_insert_default().push(deny_all()),
            3 => denied.control.get_or_insert_default().push(deny_all()),
            _ => denied.resource.get_or_insert_default().push(deny_all()),
        }
        prop_assert_eq!(denied.decision(), Decision::ExplicitDeny);
    }

    #[test]
    fn another_deny_never_allows(situation in situations(), mut statement in statements(), layer in 0..3) {
        statement.effect = "Deny";
        let mut more = situation.clone();
        match layer {
            0 => more.identity.push(vec![statement]),
            1 => match &mut more.boundary { Some(boundary) => boundary.push(statement), None => return Ok(()) },
            _ => match &mut more.resource { Some(resource) => resource.push(statement), None => return Ok(()) },
        }
        prop_assert!(situation.allowed() || !more.allowed());
    }

    #[test]
    fn another_allow_never_denies(situation in situations(), mut statement in statements(), layer in 0..4) {
        statement.effect = "Allow";
        let mut more = situation.clone();
        match layer {
            0 => more.identity.push(vec![statement]),
            1 => more.boundary.iter_mut().for_each(|boundary| boundary.push(statement.clone())),
            2 => more.session.iter_mut().for_each(|session| session.push(statement.clone())),
            _ => more.resource.iter_mut().for_each(|resource| resource.push(statement.clone())),
        }
        prop_assert!(!situation.allowed() || more.allowed());
    }

    #[test]
    fn the_order_of_policies_and_statements_does_not_matter(situation in situations()) {
        let mut turned = situation.clone();
        turned.identity.reverse();
        let layers = [&mut turned.boundary, &mut turned.session, &mut turned.control, &mut turned.resource];
        layers.into_iter().flatten().chain(&mut turned.identity).for_each(|of| of.reverse());
        prop_assert_eq!(turned.decision(), situation.decision());
    }

    #[test]
    fn nobody_gets_into_another_account_without_its_resource_policy(situation in situations()) {
        let alone = Situation { abroad: true, resource: None, ..situation };
        prop_assert!(!alone.allowed());
    }

    #[test]
    fn without_any_policy_nothing_is_allowed(situation in situations()) {
        let bare = Situation { identity: vec![], resource: None, ..situation };
        prop_assert!(!bare.allowed());
    }
}
