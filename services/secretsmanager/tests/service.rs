//! The service on a store in memory: what a caller of the API sees.

use std::sync::Arc;
use std::time::Duration;

use wharf_contracts::{RootOnly, SecretReference, SecretSource as _};
use wharf_core::{
    ApiError, Clock as _, ManualClock, Principal, RequestContext, RequestId, Scope, SeededRng, Timestamp,
};
use wharf_secretsmanager::records::{Secret, Version};
use wharf_secretsmanager::{Dependencies, SecretsManager};
use wharf_secretsmanager_api::{SecretsManager as _, types};
use wharf_state::{MemoryJournal, Store};
use wharf_vault::Vault;

const NOW: i64 = 1_700_000_000_000;
const ACCOUNT: &str = "123456789012";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

struct House {
    secrets: Arc<SecretsManager>,
    store: Store,
    clock: Arc<ManualClock>,
}

fn house() -> House {
    let store = wharf_secretsmanager::tables(Store::builder(Arc::new(MemoryJournal::new()))).open().unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(NOW)));
    let secrets = SecretsManager::new(Dependencies {
        store: store.clone(),
        vault: Vault::ephemeral(Arc::new(SeededRng::new(1))),
        clock: clock.clone(),
        rng: Arc::new(SeededRng::new(2)),
        authorizer: Arc::new(RootOnly),
    });
    House { secrets, store, clock }
}

fn token(number: u32) -> String {
    format!("{number:032}")
}

fn create(name: &str, value: &str) -> types::CreateSecretRequest {
    types::CreateSecretRequest {
        name: name.into(),
        secret_string: Some(value.into()),
        client_request_token: Some(token(1)),
        ..Default::default()
    }
}

fn replica(region: &str) -> types::ReplicaRegionType {
    types::ReplicaRegionType { region: Some(region.into()), kms_key_id: None }
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

    /// The ARN of a new secret.
    async fn create(&self, name: &str, value: &str) -> String {
        self.secrets.create_secret(&self.context(), create(name, value)).await.unwrap().arn.unwrap()
    }

    async fn put(
        &self,
        id: &str,
        number: u32,
        value: &str,
        stages: &[&str],
    ) -> Result<Vec<String>, ApiError> {
        let stages: Vec<String> = stages.iter().map(|&stage| stage.into()).collect();
        let input = types::PutSecretValueRequest {
            secret_id: id.into(),
            client_request_token: Some(token(number)),
            secret_string: Some(value.into()),
            version_stages: (!stages.is_empty()).then_some(stages),
            ..Default::default()
        };
        let output = self.secrets.put_secret_value(&self.context(), input).await?;
        Ok(output.version_stages.unwrap())
    }

    async fn get_in(
        &self,
        context: RequestContext,
        id: &str,
        stage: Option<&str>,
    ) -> Result<String, ApiError> {
        let input = types::GetSecretValueRequest {
            secret_id: id.into(),
            version_stage: stage.map(Into::into),
            ..Default::default()
        };
        Ok(self.secrets.get_secret_value(&context, input).await?.secret_string.unwrap())
    }

    async fn get(&self, id: &str, stage: Option<&str>) -> Result<String, ApiError> {
        self.get_in(self.context(), id, stage).await
    }

    async fn describe_in(
        &self,
        context: &RequestContext,
        id: &str,
    ) -> Result<types::DescribeSecretResponse, ApiError> {
        self.secrets.describe_secret(context, types::DescribeSecretRequest { secret_id: id.into() }).await
    }

    async fn describe(&self, id: &str) -> types::DescribeSecretResponse {
        self.describe_in(&self.context(), id).await.unwrap()
    }

    async fn delete(
        &self,
        id: &str,
        days: Option<i64>,
        force: bool,
    ) -> Result<types::DeleteSecretResponse, ApiError> {
        let input = types::DeleteSecretRequest {
            secret_id: id.into(),
            recovery_window_in_days: days,
            force_delete_without_recovery: Some(force),
        };
        self.secrets.delete_secret(&self.context(), input).await
    }

    async fn listed(&self, input: types::ListSecretsRequest) -> Vec<String> {
        let output = self.secrets.list_secrets(&self.context(), input).await.unwrap();
        output.secret_list.unwrap().into_iter().map(|secret| secret.name.unwrap()).collect()
    }
}

#[tokio::test]
async fn a_secret_is_found_by_name_and_by_whole_and_partial_arn() {
    let house = house();
    let arn = house.create("prod/db", "hunter2").await;
    assert!(arn.starts_with("arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/db-"));
    assert_eq!(arn.len(), "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/db-".len() + 6);
    for id in ["prod/db", arn.as_str(), &arn[..arn.len() - 7]] {
        assert_eq!(house.get(id, None).await.unwrap(), "hunter2", "{id}");
    }
    for (id, code) in [
        ("prod", "ResourceNotFoundException"),
        ("a b", "ValidationException"),
        (&arn.replace("eu-west-1", "us-east-1"), "ResourceNotFoundException"),
        (&arn.replace(ACCOUNT, "000000000000"), "ResourceNotFoundException"),
    ] {
        assert_eq!(house.get(id, None).await.unwrap_err().code, code, "{id}");
    }
}

#[tokio::test]
async fn a_request_that_is_sent_again_is_answered_again() {
    let house = house();
    let arn = house.create("x", "one").await;
    assert_eq!(house.create("x", "one").await, arn);
    let error = house.secrets.create_secret(&house.context(), create("x", "two")).await.unwrap_err();
    assert_eq!(error.code, "ResourceExistsException");
    assert!(error.message.starts_with("You can't use ClientRequestToken") && !error.message.contains("two"));
    let other = types::CreateSecretRequest { client_request_token: Some(token(9)), ..create("x", "one") };
    let error = house.secrets.create_secret(&house.context(), other).await.unwrap_err();
    assert_eq!(error.message, "The operation failed because the secret x already exists.");
    assert_eq!(house.put("x", 2, "two", &[]).await.unwrap(), ["AWSCURRENT"]);
    assert_eq!(house.put("x", 2, "two", &[]).await.unwrap(), ["AWSCURRENT"]);
    assert_eq!(house.put("x", 2, "three", &[]).await.unwrap_err().code, "ResourceExistsException");
}

#[tokio::test]
async fn labels_go_round() {
    let house = house();
    house.create("x", "1").await;
    house.put("x", 2, "2", &["AWSPENDING"]).await.unwrap();
    assert_eq!(house.get("x", None).await.unwrap(), "1");
    assert_eq!(house.get("x", Some("AWSPENDING")).await.unwrap(), "2");
    let error = house.get("x", Some("AWSPREVIOUS")).await.unwrap_err();
    assert_eq!(
        (error.code.as_ref(), error.message.as_str()),
        (
            "ResourceNotFoundException",
            "Secrets Manager can't find the specified secret value for staging label: AWSPREVIOUS"
        )
    );
    let moved = |from: Option<u32>, to: Option<u32>| types::UpdateSecretVersionStageRequest {
        secret_id: "x".into(),
        version_stage: "AWSCURRENT".into(),
        remove_from_version_id: from.map(token),
        move_to_version_id: to.map(token),
    };
    let context = house.context();
    let update = |input| house.secrets.update_secret_version_stage(&context, input);
    let error = update(moved(None, Some(2))).await.unwrap_err();
    assert!(
        error
            .message
            .starts_with("The parameter RemoveFromVersionId can't be empty. Staging label AWSCURRENT")
    );
    let error = update(moved(Some(1), None)).await.unwrap_err();
    assert!(error.message.starts_with("You can only move staging label AWSCURRENT"));
    assert_eq!(update(moved(Some(1), Some(7))).await.unwrap_err().code, "InvalidParameterException");
    update(moved(Some(1), Some(2))).await.unwrap();
    let stages = house.describe("x").await.version_ids_to_stages.unwrap();
    assert_eq!(stages[&token(1)], ["AWSPREVIOUS"]);
    assert_eq!(stages[&token(2)], ["AWSCURRENT", "AWSPENDING"]);
    let wrong = types::GetSecretValueRequest {
        secret_id: "x".into(),
        version_id: Some(token(1)),
        version_stage: Some("AWSCURRENT".into()),
    };
    let error = house.secrets.get_secret_value(&house.context(), wrong).await.unwrap_err();
    assert_eq!(
        error.message,
        "You provided a VersionStage that is not associated to the provided VersionId."
    );
}

#[tokio::test]
async fn binary_values_come_back_as_they_were() {
    let house = house();
    let bytes = vec![0, 159, 146, 150];
    let input = types::CreateSecretRequest {
        secret_string: None,
        secret_binary: Some(bytes.clone()),
        ..create("x", "")
    };
    house.secrets.create_secret(&house.context(), input).await.unwrap();
    let input = types::GetSecretValueRequest { secret_id: "x".into(), ..Default::default() };
    let found = house.secrets.get_secret_value(&house.context(), input).await.unwrap();
    assert_eq!((found.secret_binary, found.secret_string), (Some(bytes), None));
    let both = types::CreateSecretRequest { secret_binary: Some(vec![1]), ..create("y", "text") };
    assert_eq!(
        house.secrets.create_secret(&house.context(), both).await.unwrap_err().code,
        "InvalidParameterException"
    );
    let large = create("y", &"é".repeat(40_000));
    let error = house.secrets.create_secret(&house.context(), large).await.unwrap_err();
    assert_eq!(error.code, "ValidationException");
    assert!(!error.message.contains('é'));
    let none = types::PutSecretValueRequest {
        secret_id: "x".into(),
        client_request_token: Some(token(3)),
        ..Default::default()
    };
    let error = house.secrets.put_secret_value(&house.context(), none).await.unwrap_err();
    assert_eq!(error.message, "You must provide either SecretString or SecretBinary.");
}

#[tokio::test]
async fn deletion_can_be_taken_back_until_its_day() {
    let house = house();
    let arn = house.create("x", "v").await;
    for days in [6, 31] {
        assert_eq!(house.delete("x", Some(days), false).await.unwrap_err().code, "InvalidParameterException");
    }
    assert_eq!(house.delete("x", Some(7), true).await.unwrap_err().code, "InvalidParameterException");
    let due = house.delete("x", Some(7), false).await.unwrap().deletion_date.unwrap();
    assert_eq!(due, house.clock.now().plus(7 * DAY));
    let error = house.get("x", None).await.unwrap_err();
    assert_eq!(
        (error.code.as_ref(), error.message.as_str()),
        (
            "InvalidRequestException",
            "You can't perform this operation on the secret because it was marked for deletion."
        )
    );
    assert_eq!(house.describe("x").await.deleted_date, Some(due));
    assert_eq!(house.listed(Default::default()).await, Vec::<String>::new());
    let planned = types::ListSecretsRequest { include_planned_deletion: Some(true), ..Default::default() };
    assert_eq!(house.listed(planned).await, ["x"]);
    let error = house.secrets.create_secret(&house.context(), create("x", "v")).await.unwrap_err();
    assert!(error.message.contains("already scheduled for deletion"));
    let restore = types::RestoreSecretRequest { secret_id: "x".into() };
    house.secrets.restore_secret(&house.context(), restore).await.unwrap();
    assert_eq!(house.get("x", None).await.unwrap(), "v");
    house.delete("x", None, false).await.unwrap();
    assert_eq!(house.secrets.sweep().await.unwrap(), Some(house.clock.now().plus(30 * DAY)));
    house.clock.advance(30 * DAY);
    assert_eq!(house.get("x", None).await.unwrap_err().code, "ResourceNotFoundException");
    // Gone for everybody, swept or not: its name is free, and the new secret is another one.
    assert_ne!(house.create("x", "new").await, arn);
    assert_eq!(house.secrets.sweep().await.unwrap(), None);
    assert_eq!(house.get("x", None).await.unwrap(), "new");
    assert_eq!(house.get(&arn, None).await.unwrap_err().code, "ResourceNotFoundException");
}

#[tokio::test]
async fn forced_deletion_leaves_nothing() {
    let house = house();
    house.create("x", "v").await;
    house.delete("x", None, false).await.unwrap();
    house.delete("x", None, true).await.unwrap();
    assert_eq!(house.store.snapshot().count::<Secret>() + house.store.snapshot().count::<Version>(), 0);
    assert!(house.delete("x", None, true).await.is_ok());
    assert_eq!(house.delete("x", None, false).await.unwrap_err().code, "ResourceNotFoundException");
}

#[tokio::test]
async fn the_day_of_the_last_access_is_known() {
    let house = house();
    house.create("x", "v").await;
    assert_eq!(house.describe("x").await.last_accessed_date, None);
    house.get("x", None).await.unwrap();
    let day = house.describe("x").await.last_accessed_date.unwrap();
    assert_eq!(day.to_iso8601(), "2023-11-14T00:00:00.000Z");
    let revision = house.store.snapshot().revision();
    house.get("x", None).await.unwrap();
    assert_eq!(house.store.snapshot().revision(), revision, "a second read of a day writes nothing");
}

#[tokio::test]
async fn old_versions_go_and_labelled_ones_stay() {
    let house = house();
    house.create("x", "1").await;
    house.put("x", 2, "2", &["mine"]).await.unwrap();
    for number in 3..=110 {
        house.clock.advance(Duration::from_secs(60));
        house.put("x", number, "v", &[]).await.unwrap();
    }
    let ids = |deprecated| {
        let input = types::ListSecretVersionIdsRequest {
            secret_id: "x".into(),
            include_deprecated: Some(deprecated),
            ..Default::default()
        };
        let (secrets, context) = (Arc::clone(&house.secrets), house.context());
        async move {
            let output = secrets.list_secret_version_ids(&context, input).await.unwrap();
            (output.versions.unwrap().len(), output.next_token)
        }
    };
    // Current, previous, mine.
    assert_eq!(ids(false).await, (3, None));
    assert!(ids(true).await.1.is_some(), "within a day all are kept");
    house.clock.advance(2 * DAY);
    house.put("x", 111, "v", &[]).await.unwrap();
    assert_eq!(house.store.snapshot().count::<Version>(), 101);
    assert_eq!(house.get("x", Some("mine")).await.unwrap(), "2");
}

#[tokio::test]
async fn another_key_seals_the_known_versions_again() {
    let house = house();
    house.create("x", "1").await;
    let input = types::UpdateSecretRequest {
        secret_id: "x".into(),
        kms_key_id: Some("alias/mine".into()),
        description: Some("mine".into()),
        secret_string: Some("2".into()),
        client_request_token: Some(token(2)),
        ..Default::default()
    };
    let output = house.secrets.update_secret(&house.context(), input.clone()).await.unwrap();
    assert_eq!(output.version_id, Some(token(2)));
    let error = house.secrets.update_secret(&house.context(), input).await.unwrap_err();
    assert_eq!(error.code, "ResourceExistsException");
    assert_eq!(house.get("x", Some("AWSPREVIOUS")).await.unwrap(), "1");
    assert_eq!(house.get("x", None).await.unwrap(), "2");
    let described = house.describe("x").await;
    assert_eq!(described.kms_key_id.as_deref(), Some("alias/mine"));
    assert_eq!(described.description.as_deref(), Some("mine"));
    for version in house.store.snapshot().range::<Version>(..) {
        assert_eq!(version.key.as_ref().unwrap().given, "alias/mine");
    }
    let wrong = types::UpdateSecretRequest {
        secret_id: "x".into(),
        kms_key_id: Some("no key".into()),
        ..Default::default()
    };
    assert!(house.secrets.update_secret(&house.context(), wrong).await.is_err());
}

#[tokio::test]
async fn replicas_follow_their_primary() {
    let house = house();
    let input = types::CreateSecretRequest {
        add_replica_regions: Some(vec![replica("us-east-1")]),
        ..create("x", "1")
    };
    let created = house.secrets.create_secret(&house.context(), input).await.unwrap();
    assert_eq!(created.replication_status.unwrap()[0].status, Some(types::StatusType::InSync));
    let there = house.context_of(ACCOUNT, "us-east-1");
    let arn = created.arn.unwrap().replace("eu-west-1", "us-east-1");
    assert_eq!(house.get_in(there.clone(), &arn, None).await.unwrap(), "1");
    house.put("x", 2, "2", &[]).await.unwrap();
    assert_eq!(house.get_in(there.clone(), "x", None).await.unwrap(), "2");
    assert_eq!(house.get_in(there.clone(), "x", Some("AWSPREVIOUS")).await.unwrap(), "1");
    let tags = types::TagResourceRequest {
        secret_id: "x".into(),
        tags: vec![types::Tag { key: Some("k".into()), value: Some("v".into()) }],
    };
    house.secrets.tag_resource(&house.context(), tags.clone()).await.unwrap();
    let copy = house.describe_in(&there, "x").await.unwrap();
    assert_eq!((copy.tags.unwrap().len(), copy.primary_region.as_deref()), (1, Some("eu-west-1")));
    let error = house.secrets.tag_resource(&there, tags).await.unwrap_err();
    assert!(error.message.starts_with("Operation not permitted on a replica secret."));
    let error = house.delete("x", None, true).await.unwrap_err();
    assert_eq!(error.message, "You can't delete secret x that still has replica regions [us-east-1]");

    let stop = types::StopReplicationToReplicaRequest { secret_id: "x".into() };
    house.secrets.stop_replication_to_replica(&there, stop.clone()).await.unwrap();
    assert!(house.secrets.stop_replication_to_replica(&there, stop).await.is_err());
    house.put("x", 3, "3", &[]).await.unwrap();
    assert_eq!(house.get_in(there.clone(), "x", None).await.unwrap(), "2");
    assert!(house.describe("x").await.replication_status.is_none());

    let again = |force| types::ReplicateSecretToRegionsRequest {
        secret_id: "x".into(),
        add_replica_regions: vec![replica("us-east-1")],
        force_overwrite_replica_secret: Some(force),
    };
    let failed = house.secrets.replicate_secret_to_regions(&house.context(), again(false)).await.unwrap();
    let failed = &failed.replication_status.unwrap()[0];
    assert_eq!(failed.status, Some(types::StatusType::Failed));
    assert!(failed.status_message.as_deref().unwrap().contains("already exists"));
    assert_eq!(house.get_in(there.clone(), "x", None).await.unwrap(), "2");
    house.secrets.replicate_secret_to_regions(&house.context(), again(true)).await.unwrap();
    assert_eq!(house.get_in(there.clone(), "x", None).await.unwrap(), "3");
    assert!(house.secrets.replicate_secret_to_regions(&house.context(), again(true)).await.is_err());

    let remove = types::RemoveRegionsFromReplicationRequest {
        secret_id: "x".into(),
        remove_replica_regions: vec!["us-east-1".into()],
    };
    house.secrets.remove_regions_from_replication(&house.context(), remove.clone()).await.unwrap();
    assert!(house.secrets.remove_regions_from_replication(&house.context(), remove).await.is_err());
    assert_eq!(house.get_in(there, "x", None).await.unwrap_err().code, "ResourceNotFoundException");
    let wrong = types::ReplicateSecretToRegionsRequest {
        add_replica_regions: vec![replica("eu-west-1")],
        ..again(false)
    };
    let error = house.secrets.replicate_secret_to_regions(&house.context(), wrong).await.unwrap_err();
    assert_eq!(error.message, "Invalid replica region.");
}

#[tokio::test]
async fn a_secret_whose_day_has_come_stands_in_no_replicas_way() {
    let house = house();
    let there = house.context_of(ACCOUNT, "us-east-1");
    house.secrets.create_secret(&there, create("x", "old")).await.unwrap();
    let delete = types::DeleteSecretRequest { secret_id: "x".into(), ..Default::default() };
    house.secrets.delete_secret(&there, delete).await.unwrap();
    house.clock.advance(30 * DAY);
    let input = types::CreateSecretRequest {
        client_request_token: Some(token(2)),
        add_replica_regions: Some(vec![replica("us-east-1")]),
        ..create("x", "new")
    };
    let created = house.secrets.create_secret(&house.context(), input).await.unwrap();
    assert_eq!(created.replication_status.unwrap()[0].status, Some(types::StatusType::InSync));
    let there = house.context_of(ACCOUNT, "us-east-1");
    assert_eq!(house.get_in(there, "x", None).await.unwrap(), "new");
    assert_eq!(house.store.snapshot().count::<Version>(), 2, "one here and one there");
}

#[tokio::test]
async fn secrets_are_listed_sorted_filtered_and_in_pages() {
    let house = house();
    for name in ["b", "a", "c/x", "c/y"] {
        house.create(name, "v").await;
        house.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(house.listed(Default::default()).await, ["b", "a", "c/x", "c/y"]);
    let by_name = types::ListSecretsRequest { sort_by: Some(types::SortByType::Name), ..Default::default() };
    assert_eq!(house.listed(by_name.clone()).await, ["a", "b", "c/x", "c/y"]);
    let descending = types::ListSecretsRequest {
        sort_order: Some(types::SortOrderType::Desc),
        max_results: Some(3),
        ..by_name
    };
    let page = house.secrets.list_secrets(&house.context(), descending.clone()).await.unwrap();
    assert_eq!(page.secret_list.unwrap().len(), 3);
    let rest = types::ListSecretsRequest { next_token: page.next_token, ..descending };
    assert_eq!(house.listed(rest).await, ["a"]);
    let filters =
        |key, value: &str| Some(vec![types::Filter { key: Some(key), values: Some(vec![value.into()]) }]);
    let named = types::ListSecretsRequest {
        filters: filters(types::FilterNameStringType::Name, "c/"),
        ..Default::default()
    };
    assert_eq!(house.listed(named).await, ["c/x", "c/y"]);
    let batch = types::BatchGetSecretValueRequest {
        filters: filters(types::FilterNameStringType::Name, "!c/"),
        ..Default::default()
    };
    let found = house.secrets.batch_get_secret_value(&house.context(), batch).await.unwrap();
    assert_eq!(found.secret_values.unwrap().len(), 2);
    let foreign = "arn:aws:secretsmanager:eu-west-1:000000000000:secret:x-abcdef";
    let batch = types::BatchGetSecretValueRequest {
        secret_id_list: Some(vec!["a".into(), "none".into(), foreign.into()]),
        ..Default::default()
    };
    let found = house.secrets.batch_get_secret_value(&house.context(), batch).await.unwrap();
    assert_eq!(found.secret_values.unwrap()[0].secret_string.as_deref(), Some("v"));
    let codes: Vec<_> = found.errors.unwrap().into_iter().map(|error| error.error_code.unwrap()).collect();
    assert_eq!(codes, ["ResourceNotFoundException", "AccessDeniedException"]);
    let batch = types::BatchGetSecretValueRequest {
        secret_id_list: Some(vec!["a".into()]),
        next_token: Some("made up".into()),
        ..Default::default()
    };
    let error = house.secrets.batch_get_secret_value(&house.context(), batch).await.unwrap_err();
    assert_eq!(error.code, "InvalidNextTokenException");
}

#[tokio::test]
async fn resource_policies_are_checked_and_kept() {
    let house = house();
    house.create("x", "v").await;
    let policy = |principal: &str| {
        format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{principal},"Action":"secretsmanager:GetSecretValue","Resource":"*"}}]}}"#
        )
    };
    let put = |document: String, block| types::PutResourcePolicyRequest {
        secret_id: "x".into(),
        resource_policy: document,
        block_public_policy: Some(block),
        policy_name: None,
    };
    let context = house.context();
    let error = house.secrets.put_resource_policy(&context, put("{".into(), false)).await.unwrap_err();
    assert_eq!(error.code, "MalformedPolicyDocumentException");
    let error = house.secrets.put_resource_policy(&context, put(policy("\"*\""), true)).await.unwrap_err();
    assert_eq!(error.code, "PublicPolicyException");
    let document = policy(r#"{"AWS":"arn:aws:iam::000000000000:root"}"#);
    house.secrets.put_resource_policy(&context, put(document.clone(), true)).await.unwrap();
    let get = types::GetResourcePolicyRequest { secret_id: "x".into(), policy_name: None };
    let found = house.secrets.get_resource_policy(&context, get.clone()).await.unwrap();
    assert_eq!(found.resource_policy, Some(document));
    let validate = types::ValidateResourcePolicyRequest { resource_policy: policy("\"*\""), secret_id: None };
    let verdict = house.secrets.validate_resource_policy(&context, validate).await.unwrap();
    assert_eq!(verdict.policy_validation_passed, Some(false));
    let delete = types::DeleteResourcePolicyRequest { secret_id: "x".into(), policy_name: None };
    house.secrets.delete_resource_policy(&context, delete).await.unwrap();
    assert_eq!(house.secrets.get_resource_policy(&context, get).await.unwrap().resource_policy, None);
}

#[tokio::test]
async fn another_account_needs_a_key_that_it_could_use() {
    let house = house();
    let arn = house.create("x", "v").await;
    let stranger = house.context_of("000000000000", "eu-west-1");
    let error = house.get_in(stranger.clone(), &arn, None).await.unwrap_err();
    assert!(error.message.contains("default KMS service key"));
    let keyed = types::CreateSecretRequest { kms_key_id: Some("alias/mine".into()), ..create("y", "v") };
    let arn = house.secrets.create_secret(&house.context(), keyed).await.unwrap().arn.unwrap();
    assert_eq!(house.get_in(stranger.clone(), &arn, None).await.unwrap(), "v");
    // Another account's secret is found by its whole ARN alone.
    assert!(house.get_in(stranger, &arn[..arn.len() - 7], None).await.is_err());
}

#[tokio::test]
async fn a_replica_or_record_that_was_forged_does_not_open() {
    let house = house();
    house.create("a", "first").await;
    house.create("b", "second").await;
    let scope = house.context().scope;
    let version =
        |name: &str| house.store.snapshot().get::<Version>(&(scope.clone(), name.into(), token(1))).unwrap();
    let forged = Version { value: version("a").value.clone(), ..Version::clone(&version("b")) };
    house
        .store
        .transact(|transaction| {
            transaction.put(forged);
            Ok::<_, ApiError>(())
        })
        .await
        .unwrap();
    assert_eq!(house.get("b", None).await.unwrap_err().code, "InternalFailure");
}

#[tokio::test]
async fn another_service_reads_one_key_of_the_json() {
    let house = house();
    let arn = house.create("x", r#"{"user":"me","port":5432}"#).await;
    let read = |text: String, context: RequestContext| {
        let secrets = Arc::clone(&house.secrets);
        async move {
            let reference = SecretReference::parse(&text);
            secrets.secret(&context, "ecs-tasks.amazonaws.com", &reference).await
        }
    };
    let text = |found: Result<wharf_vault::Secret, ApiError>| {
        found.map(|secret| secret.expose_text().unwrap().to_owned()).unwrap()
    };
    assert_eq!(text(read(format!("{arn}:user::"), house.context()).await), "me");
    assert_eq!(text(read(format!("{arn}:port::"), house.context()).await), "5432");
    assert!(text(read("x".into(), house.context()).await).contains("5432"));
    let error = read(format!("{arn}:none::"), house.context()).await.err().unwrap();
    assert_eq!(error.message, "retrieved secret from Secrets Manager did not contain json key none");
    let stranger = house.context_of("000000000000", "eu-west-1");
    assert_eq!(read(arn, stranger).await.err().unwrap().code, "AccessDeniedException");
}

#[tokio::test]
async fn passwords_are_made() {
    let house = house();
    let input = types::GetRandomPasswordRequest {
        password_length: Some(20),
        exclude_punctuation: Some(true),
        ..Default::default()
    };
    let password =
        house.secrets.get_random_password(&house.context(), input).await.unwrap().random_password.unwrap();
    assert!(password.len() == 20 && password.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    let short = types::GetRandomPasswordRequest { password_length: Some(3), ..Default::default() };
    let error = house.secrets.get_random_password(&house.context(), short).await.unwrap_err();
    assert_eq!(error.code, "InvalidParameterException");
}

#[test]
fn requests_and_answers_do_not_show_values_when_debugged() {
    let request =
        types::CreateSecretRequest { secret_binary: Some(b"hunter2".to_vec()), ..create("shown", "hunter2") };
    let answer = types::BatchGetSecretValueResponse {
        secret_values: Some(vec![types::SecretValueEntry {
            name: Some("shown".into()),
            secret_string: Some("hunter2".into()),
            ..Default::default()
        }]),
        ..Default::default()
    };
    for text in [format!("{request:?}"), format!("{answer:#?}")] {
        assert!(text.contains("shown") && !text.contains("hunter2") && !text.contains("104, 117"), "{text}");
    }
}
