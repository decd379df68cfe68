//! The service on a store in memory: what a caller of the API sees.

use std::sync::Arc;
use std::time::Duration;

use wharf_contracts::{ParameterSource as _, RootOnly};
use wharf_core::{
    ApiError, Clock as _, ManualClock, Principal, RequestContext, RequestId, Scope, SeededRng, Timestamp,
};
use wharf_ssm::public::PublicFacts;
use wharf_ssm::records::ParameterVersion;
use wharf_ssm::{Dependencies, Ssm};
use wharf_ssm_api::{Ssm as _, types};
use wharf_state::{MemoryJournal, Store};
use wharf_vault::Vault;

const NOW: i64 = 1_700_000_000_000;
const ACCOUNT: &str = "123456789012";

struct House {
    ssm: Arc<Ssm>,
    store: Store,
    clock: Arc<ManualClock>,
}

fn house() -> House {
    let store = wharf_ssm::tables(Store::builder(Arc::new(MemoryJournal::new()))).open().unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(NOW)));
    let ssm = Ssm::new(Dependencies {
        store: store.clone(),
        vault: Vault::ephemeral(Arc::new(SeededRng::new(1))),
        clock: clock.clone(),
        authorizer: Arc::new(RootOnly),
        public: PublicFacts {
            regions: vec!["eu-west-1".into(), "us-east-1".into()],
            services: vec!["ecs".into()],
        },
    });
    House { ssm, store, clock }
}

fn put(name: &str, value: &str) -> types::PutParameterRequest {
    types::PutParameterRequest {
        name: name.into(),
        value: value.into(),
        r#type: Some(types::ParameterType::String),
        ..Default::default()
    }
}

fn again(name: &str, value: &str) -> types::PutParameterRequest {
    types::PutParameterRequest { overwrite: Some(true), r#type: None, ..put(name, value) }
}

fn secure(name: &str, value: &str) -> types::PutParameterRequest {
    types::PutParameterRequest { r#type: Some(types::ParameterType::SecureString), ..put(name, value) }
}

fn filter(key: &str, option: Option<&str>, values: &[&str]) -> types::ParameterStringFilter {
    types::ParameterStringFilter {
        key: key.into(),
        option: option.map(Into::into),
        values: Some(values.iter().map(|&value| value.into()).collect()),
    }
}

impl House {
    fn context_of(&self, account: &str, region: &str) -> RequestContext {
        let scope = Scope { account: account.parse().unwrap(), region: region.parse().unwrap() };
        RequestContext {
            request_id: RequestId::random(&SeededRng::new(1)),
            principal: Principal::Root { account: scope.account },
            scope,
            session: None,
            access_key_id: "test".into(),
            source_ip: [127, 0, 0, 1].into(),
            now: self.clock.now(),
        }
    }

    fn context(&self) -> RequestContext {
        self.context_of(ACCOUNT, "eu-west-1")
    }

    async fn put(&self, input: types::PutParameterRequest) -> Result<i64, ApiError> {
        self.ssm.put_parameter(&self.context(), input).await.map(|output| output.version.unwrap())
    }

    async fn refused(&self, input: types::PutParameterRequest) -> (String, String) {
        let error = self.put(input).await.unwrap_err();
        (error.code.into_owned(), error.message)
    }

    async fn get(&self, name: &str, decrypt: bool) -> Result<types::Parameter, ApiError> {
        let input = types::GetParameterRequest { name: name.into(), with_decryption: Some(decrypt) };
        self.ssm.get_parameter(&self.context(), input).await.map(|output| output.parameter.unwrap())
    }

    async fn value(&self, name: &str) -> String {
        self.get(name, true).await.unwrap().value.unwrap()
    }

    async fn by_path(&self, input: types::GetParametersByPathRequest) -> Vec<String> {
        let found = self.ssm.get_parameters_by_path(&self.context(), input).await.unwrap();
        found.parameters.unwrap().into_iter().map(|parameter| parameter.name.unwrap()).collect()
    }

    async fn described(&self, filters: Vec<types::ParameterStringFilter>) -> Vec<String> {
        let input =
            types::DescribeParametersRequest { parameter_filters: Some(filters), ..Default::default() };
        let found = self.ssm.describe_parameters(&self.context(), input).await.unwrap();
        found.parameters.unwrap().into_iter().map(|parameter| parameter.name.unwrap()).collect()
    }

    async fn label(
        &self,
        name: &str,
        version: Option<i64>,
        labels: &[&str],
    ) -> Result<Vec<String>, ApiError> {
        let input = types::LabelParameterVersionRequest {
            name: name.into(),
            parameter_version: version,
            labels: labels.iter().map(|&label| label.into()).collect(),
        };
        self.ssm
            .label_parameter_version(&self.context(), input)
            .await
            .map(|output| output.invalid_labels.unwrap())
    }
}

#[tokio::test]
async fn versions_are_counted_and_selected() {
    let house = house();
    assert_eq!(house.put(put("/app/url", "one")).await.unwrap(), 1);
    let (code, _) = house.refused(put("/app/url", "two")).await;
    assert_eq!(code, "ParameterAlreadyExists");
    assert_eq!(house.put(again("/app/url", "two")).await.unwrap(), 2);
    assert_eq!(house.value("/app/url").await, "two");
    let first = house.get("/app/url:1", false).await.unwrap();
    assert_eq!((first.value.as_deref(), first.selector.as_deref()), (Some("one"), Some(":1")));
    assert_eq!(first.name.as_deref(), Some("/app/url"));
    assert_eq!(first.arn.as_deref(), Some("arn:aws:ssm:eu-west-1:123456789012:parameter/app/url"));
    assert_eq!(house.value("arn:aws:ssm:eu-west-1:123456789012:parameter/app/url:1").await, "one");
    assert_eq!(house.value(" /app/url ").await, "two");
    for (name, code) in [
        ("/app/url:3", "ParameterVersionNotFound"),
        ("/app/url:prod", "ParameterVersionNotFound"),
        ("/app/none", "ParameterNotFound"),
        ("arn:aws:ssm:us-east-1:123456789012:parameter/app/url", "ParameterNotFound"),
        ("arn:aws:ssm:eu-west-1:000000000000:parameter/app/url", "ParameterNotFound"),
        ("/app url", "ValidationException"),
    ] {
        assert_eq!(house.get(name, false).await.unwrap_err().code, code, "{name}");
    }
}

#[tokio::test]
async fn scopes_do_not_see_each_other() {
    let house = house();
    house.put(put("x", "mine")).await.unwrap();
    for (account, region) in [("000000000000", "eu-west-1"), (ACCOUNT, "us-east-1")] {
        let input = types::GetParameterRequest { name: "x".into(), with_decryption: None };
        let error = house.ssm.get_parameter(&house.context_of(account, region), input).await.unwrap_err();
        assert_eq!(error.code, "ParameterNotFound");
    }
}

#[tokio::test]
async fn what_aws_refuses_to_put_is_refused() {
    let house = house();
    type Edit = fn(&mut types::PutParameterRequest);
    let cases: [(&str, Edit); 14] = [
        ("ValidationException", |put| put.name = "a b".into()),
        ("ValidationException", |put| put.name = "ssm/x".into()),
        ("AccessDeniedException", |put| put.name = "/aws/x".into()),
        ("HierarchyLevelLimitExceededException", |put| put.name = "/x".repeat(16)),
        ("ValidationException", |put| put.value = String::new()),
        ("ValidationException", |put| put.value = "{{ssm:y}}".into()),
        ("ValidationException", |put| put.value = "x".repeat(4097)),
        ("ValidationException", |put| put.r#type = None),
        ("ValidationException", |put| put.data_type = Some("Text".into())),
        ("NotImplemented", |put| put.data_type = Some("aws:ec2:image".into())),
        ("ParameterPatternMismatchException", |put| put.allowed_pattern = Some(r"^\d+$".into())),
        ("InvalidAllowedPatternException", |put| put.allowed_pattern = Some("(".into())),
        ("ValidationException", |put| put.policies = Some("[{}".into())),
        ("InvalidPolicyTypeException", |put| put.policies = Some(r#"[{"Type":"X"}]"#.into())),
    ];
    for (code, edit) in cases {
        let mut input = put("x", "a value that no error shows");
        edit(&mut input);
        let (found, message) = house.refused(input).await;
        assert_eq!(found, code, "{message}");
        assert!(!message.contains("no error shows"), "{message}");
    }
    let key = types::PutParameterRequest { key_id: Some("no key".into()), ..secure("x", "v") };
    assert_eq!(house.refused(key).await.0, "InvalidKeyId");
    house.put(put("x", "v")).await.unwrap();
    let retyped = types::PutParameterRequest { overwrite: Some(true), ..secure("x", "v") };
    assert_eq!(house.refused(retyped).await.0, "HierarchyTypeMismatchException");
    let tagged = types::PutParameterRequest {
        tags: Some(vec![types::Tag { key: "k".into(), value: "v".into() }]),
        ..again("x", "v")
    };
    assert_eq!(house.refused(tagged).await.0, "ValidationException");
}

#[tokio::test]
async fn a_secure_string_is_shown_in_clear_to_who_asks_for_it() {
    let house = house();
    house.put(secure("/db/password", "hunter2")).await.unwrap();
    assert_eq!(house.value("/db/password").await, "hunter2");
    let sealed = house.get("/db/password", false).await.unwrap().value.unwrap();
    assert!(!sealed.is_empty() && !sealed.contains("hunter2"));
    let described = house.ssm.describe_parameters(&house.context(), Default::default()).await.unwrap();
    assert_eq!(described.parameters.unwrap()[0].key_id.as_deref(), Some("alias/aws/ssm"));
    let snapshot = house.store.snapshot();
    for version in snapshot.range::<ParameterVersion>(..) {
        assert!(!version.value.as_bytes().windows(7).any(|window| window == b"hunter2"));
    }
}

#[tokio::test]
async fn a_value_that_is_moved_to_another_record_does_not_open() {
    let house = house();
    let other =
        types::PutParameterRequest { key_id: Some("alias/other".into()), ..secure("/c", "other key") };
    for input in [secure("/a", "first"), secure("/b", "second"), other] {
        house.put(input).await.unwrap();
    }
    let scope = house.context().scope;
    let version = |name: &str| {
        house.store.snapshot().get::<ParameterVersion>(&(scope.clone(), name.into(), 1)).unwrap()
    };
    let forged =
        ParameterVersion { value: version("/a").value.clone(), ..ParameterVersion::clone(&version("/b")) };
    let rekeyed =
        ParameterVersion { key: version("/a").key.clone(), ..ParameterVersion::clone(&version("/c")) };
    house
        .store
        .transact(|transaction| {
            transaction.put(forged);
            transaction.put(rekeyed);
            Ok::<_, ApiError>(())
        })
        .await
        .unwrap();
    for name in ["/b", "/c"] {
        let error = house.get(name, true).await.unwrap_err();
        assert_eq!(error.code, "InternalFailure");
        assert!(error.cause().unwrap().to_string().contains(name));
    }
}

#[tokio::test]
async fn what_a_new_version_does_not_say_stays() {
    let house = house();
    let first = types::PutParameterRequest {
        description: Some("what".into()),
        allowed_pattern: Some("[a-z]+".into()),
        key_id: Some("alias/mine".into()),
        tier: Some(types::ParameterTier::Advanced),
        tags: Some(vec![types::Tag { key: "team".into(), value: "red".into() }]),
        ..secure("x", "abc")
    };
    house.put(first).await.unwrap();
    let (code, message) = house.refused(again("x", "123")).await;
    assert_eq!(code, "ParameterPatternMismatchException");
    assert_eq!(message, "Parameter value, cannot be validated against allowedPattern: [a-z]+");
    house.put(again("x", "def")).await.unwrap();
    let described = house.ssm.describe_parameters(&house.context(), Default::default()).await.unwrap();
    let described = &described.parameters.unwrap()[0];
    assert_eq!(described.description.as_deref(), Some("what"));
    assert_eq!(described.key_id.as_deref(), Some("alias/mine"));
    assert_eq!(described.tier, Some(types::ParameterTier::Advanced));
    assert_eq!(described.version, Some(2));
    let downgrade =
        types::PutParameterRequest { tier: Some(types::ParameterTier::Standard), ..again("x", "d") };
    assert!(house.refused(downgrade).await.1.contains("You can't downgrade a parameter"));
    let tags = types::ListTagsForResourceRequest {
        resource_type: types::ResourceTypeForTagging::Parameter,
        resource_id: "x".into(),
    };
    let tags = house.ssm.list_tags_for_resource(&house.context(), tags).await.unwrap();
    assert_eq!(tags.tag_list.unwrap()[0].value, "red");
}

#[tokio::test]
async fn a_hundred_versions_are_kept_unless_the_oldest_has_a_label() {
    let house = house();
    house.put(put("x", "0")).await.unwrap();
    for version in 2..=100 {
        assert_eq!(house.put(again("x", "v")).await.unwrap(), version);
    }
    assert_eq!(house.label("x", Some(1), &["keep"]).await.unwrap(), Vec::<String>::new());
    let (code, message) = house.refused(again("x", "v")).await;
    assert_eq!(code, "ParameterMaxVersionLimitExceeded");
    assert!(message.contains("Version 1, the oldest version, can't be deleted"), "{message}");
    house.label("x", Some(50), &["keep"]).await.unwrap();
    assert_eq!(house.put(again("x", "v")).await.unwrap(), 101);
    assert_eq!(house.get("x:1", false).await.unwrap_err().code, "ParameterVersionNotFound");
    assert_eq!(house.get("x:keep", false).await.unwrap().version, Some(50));
    let mut seen = Vec::new();
    let mut token = None;
    loop {
        let input = types::GetParameterHistoryRequest {
            name: "x".into(),
            max_results: Some(40),
            next_token: token,
            with_decryption: None,
        };
        let page = house.ssm.get_parameter_history(&house.context(), input).await.unwrap();
        seen.extend(page.parameters.unwrap().into_iter().map(|parameter| parameter.version.unwrap()));
        token = page.next_token;
        if token.is_none() {
            break;
        }
    }
    assert_eq!(seen, (2..=101).collect::<Vec<i64>>());
}

#[tokio::test]
async fn labels_move_and_are_taken_away() {
    let house = house();
    house.put(put("/x", "1")).await.unwrap();
    house.put(again("/x", "2")).await.unwrap();
    assert_eq!(house.label("/x", Some(1), &["prod", "1st", "aws-x"]).await.unwrap(), ["1st", "aws-x"]);
    assert_eq!(house.value("/x:prod").await, "1");
    house.label("/x", None, &["prod", "test"]).await.unwrap();
    assert_eq!(house.value("/x:prod").await, "2");
    let many: Vec<String> = (0..9).map(|n| format!("l{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(house.label("/x", None, &many).await.unwrap_err().code, "ParameterVersionLabelLimitExceeded");
    assert_eq!(house.label("/x", Some(9), &["a"]).await.unwrap_err().code, "ParameterVersionNotFound");
    assert_eq!(house.label("/none", None, &["a"]).await.unwrap_err().code, "ParameterNotFound");
    let unlabel = types::UnlabelParameterVersionRequest {
        name: "/x".into(),
        parameter_version: 2,
        labels: vec!["prod".into(), "other".into()],
    };
    let output = house.ssm.unlabel_parameter_version(&house.context(), unlabel).await.unwrap();
    assert_eq!(
        (output.removed_labels.unwrap(), output.invalid_labels.unwrap()),
        (vec!["prod".into()], vec!["other".into()])
    );
    assert_eq!(house.get("/x:prod", false).await.unwrap_err().code, "ParameterVersionNotFound");
}

#[tokio::test]
async fn hierarchies_are_walked_in_pages() {
    let house = house();
    for name in ["/a/1", "/a/2", "/a/b/3", "/a/b/c/4", "/ab/5", "root"] {
        house.put(put(name, "v")).await.unwrap();
    }
    house.put(secure("/a/6", "v")).await.unwrap();
    let path = |path: &str, recursive| types::GetParametersByPathRequest {
        path: path.into(),
        recursive: Some(recursive),
        ..Default::default()
    };
    assert_eq!(house.by_path(path("/a", false)).await, ["/a/1", "/a/2", "/a/6"]);
    assert_eq!(house.by_path(path("/a/", true)).await, ["/a/1", "/a/2", "/a/6", "/a/b/3", "/a/b/c/4"]);
    assert_eq!(house.by_path(path("/", false)).await, ["root"]);
    assert_eq!(house.by_path(path("/none", true)).await, Vec::<String>::new());
    let only = types::GetParametersByPathRequest {
        parameter_filters: Some(vec![filter("Type", None, &["SecureString"])]),
        ..path("/a", true)
    };
    assert_eq!(house.by_path(only).await, ["/a/6"]);
    house.label("/a/2", None, &["prod"]).await.unwrap();
    house.put(again("/a/2", "newer")).await.unwrap();
    let labelled = types::GetParametersByPathRequest {
        parameter_filters: Some(vec![filter("Label", None, &["prod"])]),
        ..path("/a", true)
    };
    let found =
        house.ssm.get_parameters_by_path(&house.context(), labelled).await.unwrap().parameters.unwrap();
    assert_eq!((found.len(), found[0].version), (1, Some(1)));
    let (mut seen, mut token) = (Vec::new(), None);
    loop {
        let input =
            types::GetParametersByPathRequest { max_results: Some(2), next_token: token, ..path("/a", true) };
        let page = house.ssm.get_parameters_by_path(&house.context(), input).await.unwrap();
        seen.push(page.parameters.unwrap().len());
        token = page.next_token;
        if token.is_none() {
            break;
        }
    }
    assert_eq!(seen, [2, 2, 1]);
    let wrong = house.ssm.get_parameters_by_path(&house.context(), path("a", true)).await.unwrap_err();
    assert_eq!(wrong.code, "ValidationException");
}

#[tokio::test]
async fn descriptions_are_filtered_and_in_pages() {
    let house = house();
    let tags = vec![types::Tag { key: "team".into(), value: "red".into() }];
    let tagged = types::PutParameterRequest { tags: Some(tags), ..put("/app/a", "v") };
    house.put(tagged).await.unwrap();
    house.put(secure("/app/b/c", "v")).await.unwrap();
    house.put(put("web", "v")).await.unwrap();
    assert_eq!(house.described(vec![]).await, ["/app/a", "/app/b/c", "web"]);
    assert_eq!(
        house.described(vec![filter("Name", Some("BeginsWith"), &["/app"])]).await,
        ["/app/a", "/app/b/c"]
    );
    assert_eq!(house.described(vec![filter("Name", Some("Contains"), &["e"])]).await, ["web"]);
    assert_eq!(
        house.described(vec![filter("Path", Some("Recursive"), &["/app"])]).await,
        ["/app/a", "/app/b/c"]
    );
    assert_eq!(house.described(vec![filter("tag:team", None, &["red"])]).await, ["/app/a"]);
    assert_eq!(house.described(vec![filter("KeyId", None, &["alias/aws/ssm"])]).await, ["/app/b/c"]);
    let both = vec![filter("Type", None, &["String"]), filter("Path", None, &["/app"])];
    assert_eq!(house.described(both).await, ["/app/a"]);
    let legacy = types::DescribeParametersRequest {
        filters: Some(vec![types::ParametersFilter {
            key: types::ParametersFilterKey::Name,
            values: vec!["/app".into()],
        }]),
        ..Default::default()
    };
    let found = house.ssm.describe_parameters(&house.context(), legacy).await.unwrap();
    assert_eq!(found.parameters.unwrap().len(), 2);
    let (mut seen, mut token) = (Vec::<Vec<String>>::new(), None);
    loop {
        let input = types::DescribeParametersRequest {
            max_results: Some(2),
            next_token: token,
            ..Default::default()
        };
        let page = house.ssm.describe_parameters(&house.context(), input).await.unwrap();
        seen.push(page.parameters.unwrap().into_iter().map(|parameter| parameter.name.unwrap()).collect());
        token = page.next_token;
        if token.is_none() {
            break;
        }
    }
    assert_eq!(seen, [vec!["/app/a".to_owned(), "/app/b/c".to_owned()], vec!["web".to_owned()]]);
}

#[tokio::test]
async fn lists_tell_what_they_did_not_find() {
    let house = house();
    house.put(put("b", "2")).await.unwrap();
    house.put(put("a", "1")).await.unwrap();
    let names = types::GetParametersRequest {
        names: vec!["b".into(), "none".into(), "a:1".into(), "a:7".into()],
        with_decryption: None,
    };
    let found = house.ssm.get_parameters(&house.context(), names).await.unwrap();
    let values: Vec<_> =
        found.parameters.unwrap().into_iter().map(|parameter| parameter.value.unwrap()).collect();
    assert_eq!(
        (values, found.invalid_parameters.unwrap()),
        (vec!["1".into(), "2".into()], vec!["none".into(), "a:7".into()])
    );
    let names = types::DeleteParametersRequest { names: vec!["a".into(), "none".into()] };
    let deleted = house.ssm.delete_parameters(&house.context(), names).await.unwrap();
    assert_eq!(deleted.deleted_parameters.unwrap(), ["a"]);
    assert_eq!(deleted.invalid_parameters.unwrap(), ["none"]);
    let again = types::DeleteParameterRequest { name: "a".into() };
    assert_eq!(
        house.ssm.delete_parameter(&house.context(), again).await.unwrap_err().code,
        "ParameterNotFound"
    );
    // A new parameter of the name begins anew.
    assert_eq!(house.put(put("a", "new")).await.unwrap(), 1);
}

#[tokio::test]
async fn an_expired_parameter_is_gone_and_then_deleted() {
    let house = house();
    let policies =
        r#"[{"Type":"Expiration","Version":"1.0","Attributes":{"Timestamp":"2023-11-14T22:14:00Z"}}]"#;
    let input = types::PutParameterRequest { policies: Some(policies.into()), ..put("x", "v") };
    assert!(house.refused(input.clone()).await.1.contains("Standard tier parameters don't support"));
    let input = types::PutParameterRequest { tier: Some(types::ParameterTier::IntelligentTiering), ..input };
    house.put(input).await.unwrap();
    house.put(again("x", "newer")).await.unwrap();
    let due = house.ssm.sweep().await.unwrap().unwrap();
    assert_eq!(due.to_iso8601(), "2023-11-14T22:14:00.000Z");
    assert_eq!(house.value("x").await, "newer");
    house.clock.advance(Duration::from_secs(60));
    assert_eq!(house.get("x", false).await.unwrap_err().code, "ParameterNotFound");
    assert_eq!(house.described(vec![]).await, Vec::<String>::new());
    assert_eq!(house.ssm.sweep().await.unwrap(), None);
    assert_eq!(house.store.snapshot().count::<ParameterVersion>(), 0);
}

#[tokio::test]
async fn parameters_of_aws_that_are_true_are_served() {
    let house = house();
    let regions = "/aws/service/global-infrastructure/regions";
    let path = types::GetParametersByPathRequest { path: regions.into(), ..Default::default() };
    assert_eq!(house.by_path(path).await, [format!("{regions}/eu-west-1"), format!("{regions}/us-east-1")]);
    let region = house.get(&format!("{regions}/us-east-1"), false).await.unwrap();
    assert_eq!(region.value.as_deref(), Some("us-east-1"));
    let arn = "arn:aws:ssm:eu-west-1::parameter/aws/service/global-infrastructure/regions/us-east-1";
    assert_eq!(region.arn.as_deref(), Some(arn));
    let reference = house.get("/aws/reference/secretsmanager/x", true).await.unwrap_err();
    assert_eq!(reference.code, "NotImplemented");
    let image = "/aws/service/ecs/optimized-ami/amazon-linux-2023/recommended/image_id";
    assert_eq!(house.get(image, false).await.unwrap_err().code, "ParameterNotFound");
}

#[tokio::test]
async fn another_service_reads_on_behalf_of_a_principal() {
    let house = house();
    house.put(secure("/db/password", "hunter2")).await.unwrap();
    let read = |context: RequestContext, name: &str| {
        let (ssm, name) = (Arc::clone(&house.ssm), name.to_owned());
        async move { ssm.parameter(&context, "ecs-tasks.amazonaws.com", &name).await }
    };
    let arn = "arn:aws:ssm:eu-west-1:123456789012:parameter/db/password";
    for name in ["/db/password", "/db/password:1", arn] {
        let secret = read(house.context(), name).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(secret.expose_text(), Some("hunter2"));
    }
    let stranger = house.context_of("000000000000", "eu-west-1");
    let error = read(stranger, arn).await.err().unwrap();
    assert_eq!(error.code, "AccessDeniedException");
    let error = read(house.context(), "/none").await.err().unwrap();
    assert_eq!(error.code, "ParameterNotFound");
}
