//! What IAM is asked for the operations of Secrets Manager.

use std::sync::Arc;

use wharf_contracts::{
    AuthorizationRequest, Authorizer, Check, Decision, OperationRequest, Reach, Required, RootOnly, Values,
};
use wharf_core::{ManualClock, Principal, RequestContext, RequestId, Scope, SeededRng, Timestamp};
use wharf_secretsmanager::{Dependencies, SecretsManager};
use wharf_secretsmanager_api::{MODEL, SecretsManager as _, types};
use wharf_shape::Structure;
use wharf_state::{MemoryJournal, Store};
use wharf_vault::Vault;

fn secrets() -> Arc<SecretsManager> {
    secrets_with(Arc::new(RootOnly))
}

fn secrets_with(authorizer: Arc<dyn Authorizer>) -> Arc<SecretsManager> {
    SecretsManager::new(Dependencies {
        store: wharf_secretsmanager::tables(Store::builder(Arc::new(MemoryJournal::new()))).open().unwrap(),
        vault: Vault::ephemeral(Arc::new(SeededRng::new(1))),
        clock: Arc::new(ManualClock::new(Timestamp::from_millis(1))),
        rng: Arc::new(SeededRng::new(2)),
        authorizer,
    })
}

fn context() -> RequestContext {
    let scope = Scope { account: "123456789012".parse().unwrap(), region: "eu-west-1".parse().unwrap() };
    RequestContext {
        request_id: RequestId::random(&SeededRng::new(1)),
        principal: Principal::Root { account: scope.account },
        scope,
        session: None,
        access_key_id: "test".into(),
        source_ip: [127, 0, 0, 1].into(),
        now: Timestamp::from_millis(1),
    }
}

fn asked(secrets: &Arc<SecretsManager>, operation: &str, input: &dyn Structure) -> Vec<Check> {
    let context = context();
    let operation = &MODEL.operations[MODEL.operation(operation).unwrap()];
    let request = OperationRequest { context: &context, operation, input };
    match wharf_secretsmanager::authorization(secrets).required(&request).unwrap() {
        Required::All(checks) => checks,
        Required::Nothing => Vec::new(),
    }
}

fn key<'a>(check: &'a Check, name: &str) -> Option<&'a Values> {
    check.keys.iter().find(|key| key.name == name).map(|key| &key.values)
}

fn one(text: &str) -> Values {
    Values::One(text.to_owned())
}

fn create() -> types::CreateSecretRequest {
    types::CreateSecretRequest {
        name: "prod/db".into(),
        secret_string: Some("v".into()),
        client_request_token: Some("0".repeat(32)),
        tags: Some(vec![types::Tag { key: Some("team".into()), value: Some("red".into()) }]),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_secret_is_asked_for_by_its_arn_with_its_tags_and_its_policy() {
    let secrets = secrets();
    let checks = asked(&secrets, "CreateSecret", &create());
    let actions: Vec<_> = checks.iter().map(|check| check.action.as_ref()).collect();
    assert_eq!(actions, ["secretsmanager:CreateSecret", "secretsmanager:TagResource"]);
    let unnamed = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/db-??????";
    assert_eq!(checks[0].resources[0].arn, unnamed);
    assert_eq!(key(&checks[0], "secretsmanager:Name"), Some(&one("prod/db")));

    let get = |id: &str| types::GetSecretValueRequest { secret_id: id.into(), ..Default::default() };
    assert_eq!(asked(&secrets, "GetSecretValue", &get("prod/db"))[0].resources[0].arn, unnamed);

    let arn = secrets.create_secret(&context(), create()).await.unwrap().arn.unwrap();
    let policy = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:root"},"Action":"secretsmanager:GetSecretValue","Resource":"*"}]}"#;
    let put = types::PutResourcePolicyRequest {
        secret_id: "prod/db".into(),
        resource_policy: policy.into(),
        ..Default::default()
    };
    secrets.put_resource_policy(&context(), put).await.unwrap();
    for id in ["prod/db", arn.as_str(), &arn[..arn.len() - 7]] {
        let checks = asked(&secrets, "GetSecretValue", &get(id));
        let resource = &checks[0].resources[0];
        assert_eq!(resource.arn, arn, "{id}");
        assert_eq!(resource.tags["team"], "red");
        assert_eq!(&*resource.policy.as_ref().unwrap().document, policy);
        assert_eq!(key(&checks[0], "secretsmanager:SecretId"), Some(&one(id)));
        assert_eq!(key(&checks[0], "secretsmanager:VersionStage"), Some(&one("AWSCURRENT")));
    }
    let delete = types::DeleteSecretRequest {
        secret_id: "prod/db".into(),
        recovery_window_in_days: Some(7),
        ..Default::default()
    };
    let checks = asked(&secrets, "DeleteSecret", &delete);
    assert_eq!(key(&checks[0], "secretsmanager:RecoveryWindowInDays"), Some(&one("7")));
}

#[test]
fn a_secret_of_another_account_belongs_to_it() {
    let arn = "arn:aws:secretsmanager:eu-west-1:000000000000:secret:x-AbCdEf";
    let get = types::GetSecretValueRequest { secret_id: arn.into(), ..Default::default() };
    let checks = asked(&secrets(), "GetSecretValue", &get);
    assert_eq!(checks[0].resources[0].arn, arn);
    assert_eq!(checks[0].resources[0].owner.to_string(), "000000000000");
}

/// What an id may point out of the account with is decided for root users too.
#[test]
fn every_operation_that_takes_a_secret_id_may_reach_another_account() {
    let table = wharf_secretsmanager::authorization(&secrets());
    for name in table.operations() {
        let operation = &MODEL.operations[MODEL.operation(name).unwrap()];
        let input = (operation.new_input)();
        let takes_id = input.shape().members.iter().any(|member| member.name == "SecretId");
        let reach = if takes_id { Reach::AnyAccount } else { Reach::OwnAccount };
        assert_eq!(table.reach(operation), reach, "{name}");
    }
}

/// Allows what is done to the red team's secrets.
struct RedOnly;

impl Authorizer for RedOnly {
    fn decide(&self, request: &AuthorizationRequest<'_>) -> Decision {
        let red = |check: &Check| {
            check.resources.iter().all(|resource| resource.tags.get("team").is_some_and(|team| team == "red"))
        };
        if request.checks.iter().all(red) { Decision::Allow } else { Decision::deny("not red") }
    }
}

#[tokio::test]
async fn nobody_tags_a_secret_out_of_their_own_reach() {
    let secrets = secrets_with(Arc::new(RedOnly));
    secrets.create_secret(&context(), create()).await.unwrap();
    let tag = |key: &str, value: &str| types::TagResourceRequest {
        secret_id: "prod/db".into(),
        tags: vec![types::Tag { key: Some(key.into()), value: Some(value.into()) }],
    };
    secrets.tag_resource(&context(), tag("other", "x")).await.unwrap();
    let error = secrets.tag_resource(&context(), tag("team", "blue")).await.unwrap_err();
    assert_eq!(error.code, "AccessDeniedException");
    let untag = types::UntagResourceRequest { secret_id: "prod/db".into(), tag_keys: vec!["team".into()] };
    assert_eq!(secrets.untag_resource(&context(), untag).await.unwrap_err().code, "AccessDeniedException");
    let describe = types::DescribeSecretRequest { secret_id: "prod/db".into() };
    let tags = secrets.describe_secret(&context(), describe).await.unwrap().tags.unwrap();
    assert_eq!(tags.len(), 2);
}
