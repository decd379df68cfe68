//! The evaluation logic, by the statements of the IAM User Guide ("Policy evaluation logic", "Evaluating
//! effective permissions with boundaries", "Cross-account policy evaluation logic").

mod common;

use std::sync::Arc;

use common::{ACCOUNT, Case, OTHER, allow, identity, resource, session, statement, user};
use wharf_policy::{Caller, Decision, Layer, Policy, ResourceAccess, ResourceGrant};

fn get() -> Arc<Policy> {
    allow("s3:Get*", "*")
}

fn deny() -> Arc<Policy> {
    identity(&statement("Deny", "s3:Get*", "*", "{}"))
}

fn nothing() -> Arc<Policy> {
    allow("ec2:*", "*")
}

#[allow(clippy::unnecessary_wraps, reason = "as the field that it fills")]
fn granting(principal: &str) -> Option<(Arc<Policy>, ResourceAccess)> {
    let document = format!(
        r#"{{"Statement":[{{"Effect":"Allow","Principal":{principal},"Action":"s3:GetObject","Resource":"arn:aws:s3:::bucket/*"}}]}}"#
    );
    Some((Arc::new(resource(&document)), ResourceAccess::Grants))
}

fn to(arn: &str) -> Option<(Arc<Policy>, ResourceAccess)> {
    granting(&format!(r#"{{"AWS":"{arn}"}}"#))
}

const USER: &str = "arn:aws:iam::123456789012:user/Carlos";
const ROLE: &str = "arn:aws:iam::123456789012:role/Deploy";
const SESSION: &str = "arn:aws:sts::123456789012:assumed-role/Deploy/ci";

#[test]
fn requests_are_denied_by_default_and_an_explicit_deny_wins_from_any_layer() {
    let case = Case::of(user());
    assert_eq!(case.denied(), Some((Decision::ImplicitDeny, Layer::Identity)));
    let allowed = Case { identity: vec![get()], ..case };
    assert!(allowed.allowed());
    let resource_deny = resource(&format!(
        r#"{{"Statement":{{"Effect":"Deny","Principal":{{"AWS":"{ACCOUNT}"}},"Action":"s3:*","Resource":"*"}}}}"#
    ));
    for (case, layer) in [
        (Case { identity: vec![get(), deny()], ..allowed.clone() }, Layer::Identity),
        (Case { boundary: Some(deny()), ..allowed.clone() }, Layer::Boundary),
        (Case { session: Some(vec![get(), deny()]), ..allowed.clone() }, Layer::Session),
        (Case { service_control: vec![vec![get()], vec![deny()]], ..allowed.clone() }, Layer::ServiceControl),
        (
            Case { resource: Some((Arc::new(resource_deny), ResourceAccess::Grants)), ..allowed.clone() },
            Layer::Resource,
        ),
    ] {
        assert_eq!(case.denied(), Some((Decision::ExplicitDeny, layer)));
    }
}

#[test]
fn boundary_session_and_service_control_policies_narrow_and_never_grant() {
    let case = Case { identity: vec![get()], ..Case::of(session()) };
    for (case, layer) in [
        (Case { boundary: Some(nothing()), ..case.clone() }, Layer::Boundary),
        (Case { session: Some(vec![nothing()]), ..case.clone() }, Layer::Session),
        (Case { session: Some(vec![]), ..case.clone() }, Layer::Session),
        (Case { service_control: vec![vec![get()], vec![nothing()]], ..case.clone() }, Layer::ServiceControl),
    ] {
        assert_eq!(case.denied(), Some((Decision::ImplicitDeny, layer)));
    }
    let wide = || allow("*", "*");
    let all = Case {
        boundary: Some(wide()),
        session: Some(vec![nothing(), wide()]),
        service_control: vec![vec![wide()], vec![nothing(), wide()]],
        ..case.clone()
    };
    assert!(all.allowed());
    assert!(!Case { identity: vec![], ..all }.allowed());
}

#[test]
fn in_one_account_a_resource_policy_for_the_user_is_enough_and_nothing_narrows_it() {
    let case = Case { resource: to(USER), ..Case::of(user()) };
    assert!(case.allowed());
    assert!(Case { boundary: Some(nothing()), ..case.clone() }.allowed());
    // A service control policy does narrow it.
    let controlled = Case { service_control: vec![vec![nothing()]], ..case.clone() };
    assert_eq!(controlled.denied(), Some((Decision::ImplicitDeny, Layer::ServiceControl)));
    assert!(!Case { identity: vec![deny()], ..case }.allowed());
}

#[test]
fn a_resource_policy_for_a_role_is_narrowed_by_boundary_and_session_and_one_for_the_session_is_not() {
    let role = Case { resource: to(ROLE), ..Case::of(session()) };
    assert!(role.allowed());
    let bounded = Case { boundary: Some(nothing()), ..role.clone() };
    assert_eq!(bounded.denied(), Some((Decision::ImplicitDeny, Layer::Boundary)));
    let narrowed = Case { session: Some(vec![nothing()]), ..role.clone() };
    assert_eq!(narrowed.denied(), Some((Decision::ImplicitDeny, Layer::Session)));
    for direct in [to(SESSION), granting(r#""*""#)] {
        assert!(Case { resource: direct.clone(), ..bounded.clone() }.allowed());
        assert!(Case { resource: direct, ..narrowed.clone() }.allowed());
    }
}

#[test]
fn a_resource_policy_for_the_account_leaves_it_to_the_account() {
    let case = Case { resource: to(ACCOUNT), ..Case::of(user()) };
    assert_eq!(case.denied(), Some((Decision::ImplicitDeny, Layer::Identity)));
    assert!(Case { identity: vec![get()], ..case.clone() }.allowed());
    assert!(!Case { identity: vec![get()], boundary: Some(nothing()), ..case }.allowed());
}

#[test]
fn a_federated_user_is_narrowed_unless_it_is_meant_itself() {
    let guest = Caller::FederatedUser {
        account: ACCOUNT.parse().unwrap(),
        arn: "arn:aws:sts::123456789012:federated-user/guest".into(),
        issuer_arn: USER.into(),
    };
    let case = Case { session: Some(vec![]), identity: vec![get()], ..Case::of(guest) };
    assert!(!case.allowed());
    assert!(!Case { resource: to(USER), ..case.clone() }.allowed());
    assert!(Case { resource: to("arn:aws:sts::123456789012:federated-user/guest"), ..case }.allowed());
}

#[test]
fn from_another_account_both_sides_must_allow() {
    for caller in [user(), session()] {
        let arn = caller.name().to_owned();
        let case = Case { owner: OTHER, ..Case::of(caller) };
        let lacking = Case { identity: vec![get()], ..case.clone() };
        assert_eq!(lacking.denied(), Some((Decision::ImplicitDeny, Layer::Resource)));
        for named in [to(&arn), to(ACCOUNT), granting(r#""*""#), granting(r#"{"AWS":"*"}"#)] {
            let invited = Case { resource: named, ..case.clone() };
            assert_eq!(invited.denied(), Some((Decision::ImplicitDeny, Layer::Identity)));
            let both = Case { identity: vec![get()], ..invited };
            assert!(both.allowed());
            assert!(!Case { boundary: Some(nothing()), ..both.clone() }.allowed());
            assert!(!Case { session: Some(vec![nothing()]), ..both.clone() }.allowed());
        }
        // Another account's invitation is not ours.
        assert!(!Case { resource: to(OTHER), identity: vec![get()], ..case }.allowed());
    }
}

#[test]
fn where_the_resource_policy_gates_identity_policies_alone_are_not_enough() {
    let gate = |principal: &str| to(principal).map(|(policy, _)| (policy, ResourceAccess::Gates));
    let case = Case { identity: vec![get()], resource: gate(OTHER), ..Case::of(user()) };
    assert_eq!(case.denied(), Some((Decision::ImplicitDeny, Layer::Resource)));
    assert!(Case { resource: gate(ACCOUNT), ..case.clone() }.allowed());
    assert!(Case { resource: gate(USER), identity: vec![], ..case }.allowed());
}

#[test]
fn who_belongs_to_no_account_needs_a_resource_policy() {
    let service = Case::of(Caller::Service("ecs-tasks.amazonaws.com".into()));
    assert!(!service.allowed());
    assert!(
        Case { resource: granting(r#"{"Service":"ecs-tasks.amazonaws.com"}"#), ..service.clone() }.allowed()
    );
    assert!(!Case { resource: granting(r#"{"Service":"ec2.amazonaws.com"}"#), ..service }.allowed());
    let anonymous = Case::of(Caller::Anonymous);
    assert!(!Case { resource: to(ACCOUNT), ..anonymous.clone() }.allowed());
    assert!(Case { resource: granting(r#""*""#), ..anonymous }.allowed());
    assert!(ResourceGrant::Direct > ResourceGrant::Entity && ResourceGrant::Entity > ResourceGrant::Account);
}

#[test]
fn the_sentences_are_those_of_the_user_guide() {
    let start = "User: arn:aws:iam::123456789012:user/Carlos is not authorized to perform: s3:GetObject on \
                 resource: arn:aws:s3:::bucket/key ";
    let case = Case { identity: vec![get()], ..Case::of(user()) };
    let abroad = Case { owner: OTHER, ..case.clone() };
    for (case, end) in [
        (Case::of(user()), "because no identity-based policy allows the s3:GetObject action"),
        (
            Case { identity: vec![deny()], ..case.clone() },
            "with an explicit deny in an identity-based policy",
        ),
        (
            Case { boundary: Some(nothing()), ..case.clone() },
            "because no permissions boundary allows the s3:GetObject action",
        ),
        (Case { boundary: Some(deny()), ..case.clone() }, "with an explicit deny in a permissions boundary"),
        (
            Case { session: Some(vec![]), ..case.clone() },
            "because no session policy allows the s3:GetObject action",
        ),
        (Case { session: Some(vec![deny()]), ..case.clone() }, "with an explicit deny in a session policy"),
        (
            Case { service_control: vec![vec![nothing()]], ..case.clone() },
            "because no service control policy allows the s3:GetObject action",
        ),
        (
            Case { service_control: vec![vec![deny()]], ..case },
            "with an explicit deny in a service control policy",
        ),
        (abroad, "because no resource-based policy allows the s3:GetObject action"),
    ] {
        assert_eq!(case.verdict().1, format!("{start}{end}"));
    }
}
