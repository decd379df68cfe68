//! Decisions about callers that a fake IAM knows.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use parking_lot::Mutex;
use wharf_contracts::{
    AuthorizationRequest, Authorizer, Check, ConditionKey, Decision, Identity, IdentityPolicies, IdentityRef,
    PolicySource, RequestFacts, Resource, ResourcePolicyKind, Tags, Values,
};
use wharf_core::{
    AccountId, Principal, Region, RequestContext, RequestId, Scope, SeededRng, Session, SessionOrigin,
    Timestamp,
};

use crate::IamAuthorizer;

const HOME: &str = "111122223333";
const ABROAD: &str = "444455556666";
const TASKS: &str = "arn:aws:ecs:us-east-1:111122223333:container-instance/default/*";

/// One user (or role) and some managed policies.
#[derive(Default)]
struct FakeIam {
    identity: Mutex<Option<Arc<Identity>>>,
    managed: Mutex<BTreeMap<String, Arc<str>>>,
}

impl FakeIam {
    fn set(&self, policies: &[&str], boundary: Option<&str>) {
        let source = |text: &&str| PolicySource { name: "p".into(), document: (*text).into() };
        *self.identity.lock() = Some(Arc::new(Identity {
            account: account(HOME),
            id: "AIDAEXAMPLE".into(),
            path: "/".into(),
            name: "bob".into(),
            tags: Tags::from([("team".into(), "blue".into())]),
            policies: policies.iter().map(source).collect(),
            boundary: boundary.as_ref().map(source),
        }));
    }
}

impl IdentityPolicies for FakeIam {
    fn identity(&self, identity: IdentityRef<'_>) -> Option<Arc<Identity>> {
        let (IdentityRef::User { id, .. } | IdentityRef::Role { id, .. }) = identity;
        self.identity.lock().clone().filter(|of| of.id == id)
    }

    fn managed_policy(&self, _account: AccountId, arn: &str) -> Option<PolicySource> {
        let document = self.managed.lock().get(arn).cloned()?;
        Some(PolicySource { name: arn.into(), document })
    }
}

fn account(digits: &str) -> AccountId {
    digits.parse().unwrap()
}

fn allow(action: &str, resource: &str) -> String {
    statement("Allow", action, resource, "{}")
}

fn statement(effect: &str, action: &str, resource: &str, condition: &str) -> String {
    format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"{effect}","Action":"{action}","Resource":"{resource}","Condition":{condition}}}]}}"#
    )
}

fn bob() -> Principal {
    Principal::User { account: account(HOME), id: "AIDAEXAMPLE".into(), path: "/".into(), name: "bob".into() }
}

fn role_session() -> Principal {
    Principal::AssumedRole {
        account: account(HOME),
        role_id: "AIDAEXAMPLE".into(),
        role_path: "/".into(),
        role_name: "deploy".into(),
        session_name: "ci".into(),
    }
}

fn context(principal: Principal) -> RequestContext {
    RequestContext {
        request_id: RequestId::random(&SeededRng::new(1)),
        scope: Scope { account: principal.account(), region: Region::default() },
        principal,
        session: None,
        access_key_id: "AKIAEXAMPLE".into(),
        source_ip: IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7)),
        now: Timestamp::from_millis(1_767_225_600_000), // 2026-01-01
    }
}

fn session() -> Session {
    Session {
        issued_at: Timestamp::from_millis(0),
        expires_at: Timestamp::from_millis(i64::MAX),
        origin: SessionOrigin::AssumeRole,
        issuer: "arn:aws:iam::111122223333:role/deploy".into(),
        issuer_id: "AIDAEXAMPLE".into(),
        policies: Vec::new(),
        policy_arns: Vec::new(),
        tags: BTreeMap::new(),
        transitive_tag_keys: BTreeSet::new(),
        source_identity: None,
        federated_provider: None,
        federated_keys: BTreeMap::new(),
        mfa_at: None,
        token_digest: [7; 32],
    }
}

fn check(action: &'static str, arn: &str) -> Check {
    let owner = arn.split(':').nth(4).and_then(|of| of.parse().ok()).unwrap_or(account(HOME));
    Check { action: action.into(), resources: vec![Resource::new(arn, owner)], keys: Vec::new() }
}

struct World {
    iam: Arc<FakeIam>,
    authorizer: IamAuthorizer,
}

impl World {
    fn new(policies: &[&str]) -> Self {
        let iam = Arc::new(FakeIam::default());
        iam.set(policies, None);
        Self { authorizer: IamAuthorizer::new(Arc::clone(&iam) as _), iam }
    }

    /// AWS's sentence, or nothing when it is allowed.
    fn denial(&self, context: &RequestContext, checks: &[Check]) -> Option<String> {
        let facts = RequestFacts { user_agent: Some("aws-cli/2"), ..RequestFacts::default() };
        match self.authorizer.decide(&AuthorizationRequest { context, checks, facts: &facts }) {
            Decision::Allow => None,
            Decision::Deny(denial) => Some(denial.message),
        }
    }

    fn allows(&self, context: &RequestContext, checks: &[Check]) -> bool {
        self.denial(context, checks).is_none()
    }
}

#[test]
fn who_has_no_policy_is_told_so_in_the_words_of_aws() {
    let world = World::new(&[&allow("ecs:ListTasks", "*")]);
    assert_eq!(world.denial(&context(bob()), &[check("ecs:ListTasks", TASKS)]), None);
    let run = check("ecs:RunTask", "arn:aws:ecs:us-east-1:111122223333:task-definition/web:1");
    assert_eq!(
        world.denial(&context(bob()), &[run]).as_deref(),
        Some(
            "User: arn:aws:iam::111122223333:user/bob is not authorized to perform: ecs:RunTask on resource: \
             arn:aws:ecs:us-east-1:111122223333:task-definition/web:1 because no identity-based policy allows \
             the ecs:RunTask action"
        )
    );
}

#[test]
fn every_check_and_every_resource_must_be_allowed() {
    let world = World::new(&[&allow("ecs:*", "*")]);
    let pass = check("iam:PassRole", "arn:aws:iam::111122223333:role/app");
    let run = check("ecs:RunTask", "arn:aws:ecs:us-east-1:111122223333:task-definition/web:1");
    assert!(world.allows(&context(bob()), std::slice::from_ref(&run)));
    let denial = world.denial(&context(bob()), &[run, pass]).unwrap();
    assert!(denial.contains("iam:PassRole on resource: arn:aws:iam::111122223333:role/app"), "{denial}");
    assert!(!world.allows(&context(bob()), &[]), "nothing asked for is nothing allowed");
}

#[test]
fn a_changed_policy_counts_at_once_and_so_does_a_deleted_user() {
    let world = World::new(&[&allow("ecs:*", "*")]);
    let list = [check("ecs:ListTasks", TASKS)];
    assert!(world.allows(&context(bob()), &list));
    world.iam.set(&[&allow("ecs:*", "*"), &statement("Deny", "ecs:List*", "*", "{}")], None);
    let denial = world.denial(&context(bob()), &list).unwrap();
    assert!(denial.ends_with("with an explicit deny in an identity-based policy"), "{denial}");
    world.iam.set(&[&allow("ecs:*", "*")], Some(&allow("ec2:*", "*")));
    let denial = world.denial(&context(bob()), &list).unwrap();
    assert!(denial.ends_with("because no permissions boundary allows the ecs:ListTasks action"), "{denial}");
    world.iam.set(&[&allow("ecs:*", "*")], None);
    assert!(world.allows(&context(bob()), &list));
    *world.iam.identity.lock() = None;
    assert!(!world.allows(&context(bob()), &list));
    let opened = Resource::new(TASKS, account(HOME)).with_policy(
        r#"{"Statement":{"Effect":"Allow","Principal":"*","Action":"*"}}"#.into(),
        ResourcePolicyKind::Grants,
    );
    let on_opened = Check { resources: vec![opened], ..list[0].clone() };
    assert!(!world.allows(&context(bob()), &[on_opened]), "who is gone may not even do what everybody may");
}

#[test]
fn the_root_user_may_do_all_at_home_and_nothing_abroad_without_an_invitation() {
    let world = World::new(&[]);
    let root = context(Principal::Root { account: account(HOME) });
    let at_home =
        check("secretsmanager:GetSecretValue", "arn:aws:secretsmanager:us-east-1:111122223333:secret:a");
    assert!(world.allows(&root, std::slice::from_ref(&at_home)));
    let abroad = "arn:aws:secretsmanager:us-east-1:444455556666:secret:a";
    let denial = world.denial(&root, &[check("secretsmanager:GetSecretValue", abroad)]).unwrap();
    let words = "because no resource-based policy allows the secretsmanager:GetSecretValue action";
    assert!(denial.ends_with(words), "{denial}");
    let invitation = |principal: &str| {
        let document = format!(
            r#"{{"Statement":{{"Effect":"Allow","Principal":{{"AWS":"{principal}"}},"Action":"secretsmanager:*","Resource":"*"}}}}"#
        );
        let resource =
            Resource::new(abroad, account(ABROAD)).with_policy(document.into(), ResourcePolicyKind::Grants);
        Check { resources: vec![resource], ..at_home.clone() }
    };
    assert!(world.allows(&root, &[invitation(HOME)]));
    assert!(!world.allows(&root, &[invitation(ABROAD)]));
    // A user needs the permission of its own account beside the invitation.
    assert!(!world.allows(&context(bob()), &[invitation(HOME)]));
    world.iam.set(&[&allow("secretsmanager:*", "*")], None);
    assert!(world.allows(&context(bob()), &[invitation(HOME)]));
}

#[test]
fn a_role_is_assumed_by_whom_its_trust_policy_lets_in() {
    let role = "arn:aws:iam::111122223333:role/deploy";
    let trusting = |principal: &str| {
        let document = format!(
            r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Principal":{{"AWS":"{principal}"}},"Action":"sts:AssumeRole"}}}}"#
        );
        let resource =
            Resource::new(role, account(HOME)).with_policy(document.into(), ResourcePolicyKind::Trust);
        [Check { action: "sts:AssumeRole".into(), resources: vec![resource], keys: Vec::new() }]
    };
    let world = World::new(&[]);
    assert!(world.allows(&context(bob()), &trusting("arn:aws:iam::111122223333:user/bob")));
    assert!(!world.allows(&context(bob()), &trusting("arn:aws:iam::111122223333:user/alice")));
    assert!(!world.allows(&context(bob()), &trusting(HOME)), "the account leaves it to its own policies");
    world.iam.set(&[&allow("sts:AssumeRole", "*")], None);
    assert!(world.allows(&context(bob()), &trusting(HOME)));
    let denial = world.denial(&context(bob()), &trusting(ABROAD)).unwrap();
    assert_eq!(
        denial,
        "User: arn:aws:iam::111122223333:user/bob is not authorized to perform: sts:AssumeRole on resource: \
         arn:aws:iam::111122223333:role/deploy"
    );
}

#[test]
fn session_policies_narrow_and_a_federated_user_has_nothing_without_them() {
    let world = World::new(&[&allow("ecs:*", "*")]);
    let list = [check("ecs:ListTasks", TASKS)];
    let with = |principal: Principal, session: Session| RequestContext {
        session: Some(Arc::new(session)),
        ..context(principal)
    };
    assert!(world.allows(&with(role_session(), session()), &list));
    let narrow = Session { policies: vec![allow("ecs:Run*", "*")], ..session() };
    let denial = world.denial(&with(role_session(), narrow), &list).unwrap();
    assert!(denial.starts_with("User: arn:aws:sts::111122223333:assumed-role/deploy/ci "), "{denial}");
    assert!(denial.ends_with("because no session policy allows the ecs:ListTasks action"), "{denial}");

    let arn = "arn:aws:iam::aws:policy/List";
    let by_arn = Session { policy_arns: vec![arn.into()], token_digest: [8; 32], ..session() };
    assert!(!world.allows(&with(role_session(), by_arn.clone()), &list), "no such policy");
    world.iam.managed.lock().insert(arn.into(), allow("ecs:List*", "*").into());
    assert!(world.allows(&with(role_session(), by_arn), &list));

    let federated = || Principal::FederatedUser { account: account(HOME), name: "guest".into() };
    assert!(!world.allows(&with(federated(), Session { token_digest: [9; 32], ..session() }), &list));
    let given = Session { policies: vec![allow("*", "*")], token_digest: [10; 32], ..session() };
    assert!(world.allows(&with(federated(), given.clone()), &list));
    world.iam.set(&[], None);
    assert!(!world.allows(&with(federated(), given.clone()), &list), "no more than its issuer");
    // Of a root user, who may do all.
    let of_root = Session { issuer_id: HOME.into(), token_digest: [11; 32], ..given };
    assert!(world.allows(&with(federated(), of_root), &list));
}

#[test]
fn conditions_see_request_resource_principal_and_session() {
    let with = |condition: &str, context: &RequestContext, check: &Check| {
        let world = World::new(&[&statement("Allow", "ecs:*", "*", condition)]);
        world.allows(context, std::slice::from_ref(check))
    };
    let mut run = check("ecs:RunTask", "arn:aws:ecs:us-east-1:111122223333:task-definition/web:1");
    run.resources[0].tags.insert("Stage".into(), "test".into());
    run.keys.push(ConditionKey { name: "aws:RequestTag/team".into(), values: Values::One("blue".into()) });
    run.keys.push(ConditionKey { name: "aws:TagKeys".into(), values: Values::Many(vec!["team".into()]) });
    let mut context = context(bob());
    for yes in [
        r#"{"StringEquals":{"aws:username":"bob","aws:PrincipalType":"User","aws:userid":"AIDAEXAMPLE"}}"#,
        r#"{"StringEquals":{"aws:PrincipalAccount":"111122223333","aws:ResourceAccount":"111122223333"}}"#,
        r#"{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::*:user/b*"}}"#,
        r#"{"StringEquals":{"aws:RequestTag/team":"${aws:PrincipalTag/team}"}}"#,
        r#"{"StringEquals":{"aws:ResourceTag/stage":"test","ecs:ResourceTag/Stage":"test"}}"#,
        r#"{"ForAllValues:StringEquals":{"aws:TagKeys":["team","stage"]}}"#,
        r#"{"IpAddress":{"aws:SourceIp":"203.0.113.0/24"},"Bool":{"aws:SecureTransport":"false"}}"#,
        r#"{"DateGreaterThan":{"aws:CurrentTime":"2025-12-31T23:59:59Z"}}"#,
        r#"{"NumericLessThanEquals":{"aws:EpochTime":1767225600}}"#,
        r#"{"StringLike":{"aws:UserAgent":"aws-cli/*"},"Null":{"aws:Referer":"true"}}"#,
        r#"{"StringEquals":{"aws:RequestedRegion":"us-east-1"},"Bool":{"aws:ViaAWSService":"false"}}"#,
        r#"{"Null":{"aws:TokenIssueTime":"true","aws:MultiFactorAuthPresent":"true"}}"#,
    ] {
        assert!(with(yes, &context, &run), "{yes}");
    }
    for no in [
        r#"{"StringEquals":{"aws:username":"alice"}}"#,
        r#"{"StringEquals":{"ec2:ResourceTag/Stage":"test"}}"#,
        r#"{"ForAllValues:StringEquals":{"aws:TagKeys":["stage"]}}"#,
        r#"{"Bool":{"aws:MultiFactorAuthPresent":"true"}}"#,
        r#"{"NotIpAddress":{"aws:SourceIp":"203.0.113.0/24"}}"#,
    ] {
        assert!(!with(no, &context, &run), "{no}");
    }
    context.session = Some(Arc::new(Session {
        mfa_at: Some(Timestamp::from_millis(1_767_225_500_000)),
        source_identity: Some("carol".into()),
        tags: BTreeMap::from([("team".into(), "red".into())]),
        federated_keys: BTreeMap::from([("token.example.com:sub".into(), vec!["me".into()])]),
        ..session()
    }));
    for yes in [
        r#"{"Bool":{"aws:MultiFactorAuthPresent":"true"},"NumericLessThan":{"aws:MultiFactorAuthAge":"101"}}"#,
        r#"{"StringEquals":{"aws:SourceIdentity":"carol","aws:PrincipalTag/Team":"red"}}"#,
        r#"{"StringEquals":{"token.example.com:sub":"me"}}"#,
    ] {
        assert!(with(yes, &context, &run), "{yes}");
    }
}

#[test]
fn what_cannot_be_read_denies_and_nobody_is_let_in_by_being_nobody() {
    let world = World::new(&[&allow("*", "*"), "{"]);
    assert!(!world.allows(&context(bob()), &[check("ecs:ListTasks", TASKS)]));
    let world = World::new(&[&allow("*", "*")]);
    let anonymous = RequestContext {
        scope: Scope { account: account(HOME), region: Region::default() },
        ..context(Principal::Anonymous)
    };
    assert!(!world.allows(&anonymous, &[check("ecs:ListTasks", TASKS)]));
    let broken = Resource::new(TASKS, account(HOME)).with_policy("[]".into(), ResourcePolicyKind::Grants);
    assert!(
        !world.allows(&context(bob()), &[Check { resources: vec![broken], ..check("ecs:ListTasks", TASKS) }])
    );
}

#[test]
fn the_details_of_a_denial_are_json_and_name_the_statements_that_deny() {
    let world = World::new(&[]);
    let context = context(bob());
    let checks = [check("ec2:DescribeVpcs", "*")];
    let facts = RequestFacts { user_agent: Some("a \"quoted\"\nagent"), ..RequestFacts::default() };
    let request = AuthorizationRequest { context: &context, checks: &checks, facts: &facts };
    let details = || match world.authorizer.decide(&request) {
        Decision::Deny(denial) => denial.details,
        Decision::Allow => panic!("allowed"),
    };
    let start = r#"{"allowed":false,"explicitDeny":false,"matchedStatements":{"items":[]},"#;
    assert!(details().starts_with(start), "{}", details());
    let agent = r#"{"key":"aws:UserAgent","values":{"items":[{"value":"a \"quoted\"\u000aagent"}]}}"#;
    assert!(details().contains(agent), "{}", details());
    world.iam.set(&[&allow("*", "*"), &statement("Deny", "ec2:Describe*", "*", "{}")], None);
    let start = concat!(
        r#"{"allowed":false,"explicitDeny":true,"matchedStatements":{"items":[{"statementId":"","effect":"DENY","#,
        r#""actions":{"items":[{"value":"ec2:Describe*"}]},"resources":{"items":[{"value":"*"}]}}]},"#
    );
    assert!(details().starts_with(start), "{}", details());
}
