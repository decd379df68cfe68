//! What IAM is asked for the operations of Parameter Store.

use std::sync::Arc;

use wharf_contracts::{Check, OperationRequest, Required, RootOnly, Values};
use wharf_core::{ManualClock, Principal, RequestContext, RequestId, Scope, SeededRng, Timestamp};
use wharf_shape::Structure;
use wharf_ssm::public::PublicFacts;
use wharf_ssm::{Dependencies, Ssm};
use wharf_ssm_api::{MODEL, Ssm as _, types};
use wharf_state::{MemoryJournal, Store};
use wharf_vault::Vault;

fn ssm() -> Arc<Ssm> {
    Ssm::new(Dependencies {
        store: wharf_ssm::tables(Store::builder(Arc::new(MemoryJournal::new()))).open().unwrap(),
        vault: Vault::ephemeral(Arc::new(SeededRng::new(1))),
        clock: Arc::new(ManualClock::new(Timestamp::from_millis(1))),
        authorizer: Arc::new(RootOnly),
        public: PublicFacts::default(),
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

fn asked(ssm: &Arc<Ssm>, operation: &str, input: &dyn Structure) -> Vec<Check> {
    let context = context();
    let operation = &MODEL.operations[MODEL.operation(operation).unwrap()];
    let request = OperationRequest { context: &context, operation, input };
    match wharf_ssm::authorization(ssm).required(&request).unwrap() {
        Required::All(checks) => checks,
        Required::Nothing => Vec::new(),
    }
}

fn arns(check: &Check) -> Vec<&str> {
    check.resources.iter().map(|resource| resource.arn.as_str()).collect()
}

fn key<'a>(check: &'a Check, name: &str) -> Option<&'a Values> {
    check.keys.iter().find(|key| key.name == name).map(|key| &key.values)
}

fn one(text: &str) -> Values {
    Values::One(text.to_owned())
}

#[tokio::test]
async fn parameters_are_asked_for_by_arn_and_with_their_tags() {
    let ssm = ssm();
    let put = types::PutParameterRequest {
        name: "/app/url".into(),
        value: "v".into(),
        r#type: Some(types::ParameterType::String),
        overwrite: Some(false),
        tags: Some(vec![types::Tag { key: "team".into(), value: "red".into() }]),
        ..Default::default()
    };
    let checks = asked(&ssm, "PutParameter", &put);
    let actions: Vec<_> = checks.iter().map(|check| check.action.as_ref()).collect();
    assert_eq!(actions, ["ssm:PutParameter", "ssm:AddTagsToResource"]);
    let arn = "arn:aws:ssm:eu-west-1:123456789012:parameter/app/url";
    assert_eq!(arns(&checks[0]), [arn]);
    assert_eq!(key(&checks[0], "ssm:Overwrite"), Some(&one("false")));
    assert_eq!(key(&checks[0], "aws:RequestTag/team"), Some(&one("red")));

    assert!(checks[0].resources[0].tags.is_empty());

    ssm.put_parameter(&context(), put.clone()).await.unwrap();
    let overwrite = types::PutParameterRequest { overwrite: Some(true), tags: None, ..put };
    let checks = asked(&ssm, "PutParameter", &overwrite);
    assert_eq!((checks.len(), arns(&checks[0])), (1, vec![arn]));
    assert_eq!(checks[0].resources[0].tags["team"], "red");
    for name in ["/app/url", "/app/url:1", arn] {
        let get = types::GetParameterRequest { name: name.into(), with_decryption: None };
        let checks = asked(&ssm, "GetParameter", &get);
        assert_eq!((checks.len(), arns(&checks[0])), (1, vec![arn]), "{name}");
        assert_eq!(checks[0].resources[0].tags["team"], "red");
    }
    let names = types::GetParametersRequest { names: vec!["a".into(), "/b".into()], with_decryption: None };
    let checks = asked(&ssm, "GetParameters", &names);
    assert_eq!(
        arns(&checks[0]),
        ["arn:aws:ssm:eu-west-1:123456789012:parameter/a", "arn:aws:ssm:eu-west-1:123456789012:parameter/b"]
    );
}

#[test]
fn a_path_is_asked_for_and_not_what_lies_below_it() {
    let path = types::GetParametersByPathRequest {
        path: "/app/".into(),
        recursive: Some(true),
        ..Default::default()
    };
    let checks = asked(&ssm(), "GetParametersByPath", &path);
    assert_eq!(arns(&checks[0]), ["arn:aws:ssm:eu-west-1:123456789012:parameter/app"]);
    assert_eq!(key(&checks[0], "ssm:Recursive"), Some(&one("true")));
}

#[test]
fn a_parameter_of_another_account_belongs_to_it_and_aws_s_own_to_nobody() {
    let owner = |name: &str| {
        let get = types::GetParameterRequest { name: name.into(), with_decryption: None };
        let checks = asked(&ssm(), "GetParameter", &get);
        (checks[0].resources[0].arn.clone(), checks[0].resources[0].owner.to_string())
    };
    let foreign = "arn:aws:ssm:eu-west-1:000000000000:parameter/x";
    assert_eq!(owner(foreign), (foreign.to_owned(), "000000000000".to_owned()));
    let public = "/aws/service/global-infrastructure/regions/us-east-1";
    let arn = format!("arn:aws:ssm:eu-west-1::parameter{public}");
    assert_eq!(owner(public), (arn, "123456789012".to_owned()));
}
