//! Clusters.

use std::sync::Arc;

use wharf_core::{ApiError, Arn, RequestContext, Scope, Timestamp};
use wharf_ecs_api::errors::{
    client_exception, cluster_contains_tasks_exception, cluster_not_found_exception,
    invalid_parameter_exception,
};
use wharf_ecs_api::types;
use wharf_state::{Key as _, Snapshot, Transaction};

use super::capacity_provider;
use crate::convert::{self, ClusterCounts};
use crate::fields;
use crate::names;
use crate::pages::PageRequest;
use crate::reconcile::Platform;
use crate::records::{Cluster, ClusterStatus, Task, TaskStatus};
use crate::tags::{self, Tags};

/// Clusters of an account in a region (Amazon ECS quotas).
const CLUSTERS_MAX: usize = 10_000;
/// Clusters of one `DescribeClusters`.
const DESCRIBED_MAX: usize = 100;

/// A cluster that is new.
pub fn new_cluster(scope: &Scope, name: &str, tags: Tags, now: Timestamp) -> Cluster {
    let arn = Arn::regional("ecs", &scope.region, scope.account, format!("cluster/{name}"));
    Cluster {
        scope: scope.clone(),
        name: name.to_owned(),
        arn: arn.to_string(),
        status: ClusterStatus::Active,
        capacity_providers: Vec::new(),
        default_strategy: Vec::new(),
        tags,
        created_at: now,
        deleted_at: None,
    }
}

/// The default cluster as AWS's first-run console makes it: with both Fargate providers.
fn default_cluster(scope: &Scope, now: Timestamp) -> Cluster {
    let mut cluster = new_cluster(scope, names::DEFAULT_CLUSTER, Tags::new(), now);
    cluster.capacity_providers = capacity_provider::BUILT_IN.iter().map(|name| (*name).to_owned()).collect();
    cluster
}

/// The active cluster of this name. The default cluster is there from the first time that it is
/// asked for.
///
/// # Errors
/// `ClusterNotFoundException`.
pub async fn find(
    platform: &Platform,
    context: &RequestContext,
    name: &str,
) -> Result<Arc<Cluster>, ApiError> {
    let key = (context.scope.clone(), name.to_owned());
    let active = |cluster: &Arc<Cluster>| cluster.status == ClusterStatus::Active;
    if let Some(cluster) = platform.store.snapshot().get::<Cluster>(&key).filter(active) {
        return Ok(cluster);
    }
    if name != names::DEFAULT_CLUSTER {
        return Err(cluster_not_found_exception("Cluster not found."));
    }
    let now = context.now;
    platform
        .store
        .transact(|transaction| match transaction.get::<Cluster>(&key) {
            Some(cluster) if active(&cluster) => Ok(cluster),
            // It was deleted, and stays so until it is created again.
            Some(_) => Err(cluster_not_found_exception("Cluster not found.")),
            None => {
                let cluster = default_cluster(&context.scope, now);
                transaction.put(cluster.clone());
                Ok(Arc::new(cluster))
            }
        })
        .await
        .map_err(Into::into)
}

fn in_transaction(
    transaction: &Transaction<'_>,
    context: &RequestContext,
    name: &str,
) -> Result<Cluster, ApiError> {
    transaction
        .get::<Cluster>(&(context.scope.clone(), name.to_owned()))
        .filter(|cluster| cluster.status == ClusterStatus::Active)
        .map(|cluster| (*cluster).clone())
        .ok_or_else(|| cluster_not_found_exception("Cluster not found."))
}

fn counts(snapshot: &Snapshot, cluster: &Cluster) -> ClusterCounts {
    let mut counts = ClusterCounts::default();
    let prefix = (cluster.scope.clone(), cluster.name.clone()).to_bytes();
    for task in snapshot.prefix::<Task>(&prefix) {
        match task.status {
            TaskStatus::Running => counts.running += 1,
            TaskStatus::Provisioning | TaskStatus::Pending | TaskStatus::Activating => counts.pending += 1,
            TaskStatus::Deactivating
            | TaskStatus::Stopping
            | TaskStatus::Deprovisioning
            | TaskStatus::Stopped => {}
        }
    }
    counts
}

const ALL_FIELDS: [types::ClusterField; 2] = [types::ClusterField::Settings, types::ClusterField::Tags];

/// Container Insights can be off; there are no metrics to turn on.
fn check_settings(settings: Option<Vec<types::ClusterSetting>>, operation: &str) -> Result<(), ApiError> {
    for setting in settings.unwrap_or_default() {
        let name = setting.name.unwrap_or_default();
        let value = setting.value.unwrap_or_default();
        match (name, value.as_str()) {
            (types::ClusterSettingName::ContainerInsights, "disabled") => {}
            (types::ClusterSettingName::ContainerInsights, "enabled" | "enhanced") => {
                return Err(ApiError::not_implemented(format_args!(
                    "the value \"{value}\" of the setting \"containerInsights\" of ecs:{operation}"
                )));
            }
            (name, _) => {
                return Err(invalid_parameter_exception(format!("Invalid cluster setting: {name}={value}")));
            }
        }
    }
    Ok(())
}

pub async fn create_cluster(
    platform: &Arc<Platform>,
    context: &RequestContext,
    input: types::CreateClusterRequest,
) -> Result<types::CreateClusterResponse, ApiError> {
    fields::check(&input, fields::CREATE_CLUSTER, "CreateCluster")?;
    let name = input.cluster_name.filter(|name| !name.is_empty());
    let name = name.unwrap_or_else(|| names::DEFAULT_CLUSTER.to_owned());
    if !names::is_well_formed(&name) {
        return Err(invalid_parameter_exception("Cluster name contains invalid characters."));
    }
    check_settings(input.settings, "CreateCluster")?;
    let providers = input.capacity_providers.unwrap_or_default();
    let strategy = capacity_provider::strategy(input.default_capacity_provider_strategy.unwrap_or_default())?;
    capacity_provider::check(&providers, &strategy)?;
    let tags = tags::from_api(input.tags)?;
    let key = (context.scope.clone(), name.clone());
    let cluster = platform
        .store
        .transact(|transaction| {
            if let Some(cluster) = transaction.get::<Cluster>(&key)
                && cluster.status == ClusterStatus::Active
            {
                return Ok(cluster);
            }
            if transaction.prefix::<Cluster>(&context.scope.to_bytes()).count() >= CLUSTERS_MAX {
                return Err(client_exception("The maximum number of clusters has been reached."));
            }
            let mut cluster = new_cluster(&context.scope, &name, tags, context.now);
            cluster.capacity_providers = providers;
            cluster.default_strategy = strategy;
            transaction.put(cluster.clone());
            Ok::<_, ApiError>(Arc::new(cluster))
        })
        .await?;
    let counts = counts(&platform.store.snapshot(), &cluster);
    Ok(types::CreateClusterResponse { cluster: Some(convert::cluster(&cluster, counts, &ALL_FIELDS)) })
}

pub async fn describe_clusters(
    platform: &Arc<Platform>,
    context: &RequestContext,
    input: types::DescribeClustersRequest,
) -> Result<types::DescribeClustersResponse, ApiError> {
    let include = input.include.unwrap_or_default();
    if include.iter().any(|field| matches!(field, types::ClusterField::Unknown(_))) {
        return Err(invalid_parameter_exception("Invalid value for include."));
    }
    let given = input.clusters.unwrap_or_default();
    let given = if given.is_empty() { vec![names::DEFAULT_CLUSTER.to_owned()] } else { given };
    if given.len() > DESCRIBED_MAX {
        return Err(invalid_parameter_exception("Clusters can have at most 100 items."));
    }
    let (mut clusters, mut failures) = (Vec::new(), Vec::new());
    for identifier in given {
        let name = names::cluster(context, Some(&identifier))?;
        if name == names::DEFAULT_CLUSTER {
            // Makes it when it is not there yet; a deleted one is still described below.
            match find(platform, context, &name).await {
                Ok(_) => {}
                Err(error) if error.code == "ClusterNotFoundException" => {}
                Err(error) => return Err(error),
            }
        }
        let snapshot = platform.store.snapshot();
        match snapshot.get::<Cluster>(&(context.scope.clone(), name.clone())) {
            Some(cluster) => {
                clusters.push(convert::cluster(&cluster, counts(&snapshot, &cluster), &include));
            }
            None => failures.push(types::Failure {
                arn: Some(new_cluster(&context.scope, &name, Tags::new(), context.now).arn),
                reason: Some("MISSING".to_owned()),
                detail: None,
            }),
        }
    }
    Ok(types::DescribeClustersResponse { clusters: Some(clusters), failures: Some(failures) })
}

pub async fn list_clusters(
    platform: &Arc<Platform>,
    context: &RequestContext,
    input: types::ListClustersRequest,
) -> Result<types::ListClustersResponse, ApiError> {
    let page = PageRequest::new("ListClusters".to_owned(), input.next_token.as_deref(), input.max_results)?;
    let snapshot = platform.store.snapshot();
    let found = snapshot
        .prefix::<Cluster>(&context.scope.to_bytes())
        .filter(|cluster| cluster.status == ClusterStatus::Active)
        .filter(|cluster| page.after.as_ref().is_none_or(|after| cluster.name > *after));
    let page = page.take(found, |cluster| cluster.name.clone());
    Ok(types::ListClustersResponse {
        cluster_arns: Some(page.items.iter().map(|cluster| cluster.arn.clone()).collect()),
        next_token: page.next_token,
    })
}

pub async fn update_cluster(
    platform: &Arc<Platform>,
    context: &RequestContext,
    input: types::UpdateClusterRequest,
) -> Result<types::UpdateClusterResponse, ApiError> {
    fields::check(&input, fields::UPDATE_CLUSTER, "UpdateCluster")?;
    check_settings(input.settings, "UpdateCluster")?;
    let cluster = find(platform, context, &names::cluster(context, Some(&input.cluster))?).await?;
    let counts = counts(&platform.store.snapshot(), &cluster);
    Ok(types::UpdateClusterResponse { cluster: Some(convert::cluster(&cluster, counts, &ALL_FIELDS)) })
}

pub async fn update_cluster_settings(
    platform: &Arc<Platform>,
    context: &RequestContext,
    input: types::UpdateClusterSettingsRequest,
) -> Result<types::UpdateClusterSettingsResponse, ApiError> {
    check_settings(Some(input.settings), "UpdateClusterSettings")?;
    let cluster = find(platform, context, &names::cluster(context, Some(&input.cluster))?).await?;
    let counts = counts(&platform.store.snapshot(), &cluster);
    Ok(types::UpdateClusterSettingsResponse {
        cluster: Some(convert::cluster(&cluster, counts, &ALL_FIELDS)),
    })
}

/// Changes an active cluster in one transaction, and answers with it.
pub async fn change(
    platform: &Platform,
    context: &RequestContext,
    name: &str,
    change: impl FnOnce(&mut Cluster) -> Result<(), ApiError>,
) -> Result<types::Cluster, ApiError> {
    find(platform, context, name).await?;
    let cluster = platform
        .store
        .transact(|transaction| {
            let mut cluster = in_transaction(transaction, context, name)?;
            change(&mut cluster)?;
            transaction.put(cluster.clone());
            Ok::<_, ApiError>(cluster)
        })
        .await?;
    let counts = counts(&platform.store.snapshot(), &cluster);
    Ok(convert::cluster(&cluster, counts, &ALL_FIELDS))
}

pub async fn delete_cluster(
    platform: &Arc<Platform>,
    context: &RequestContext,
    input: types::DeleteClusterRequest,
) -> Result<types::DeleteClusterResponse, ApiError> {
    let name = names::cluster(context, Some(&input.cluster))?;
    find(platform, context, &name).await?;
    let cluster = platform
        .store
        .transact(|transaction| {
            let mut cluster = in_transaction(transaction, context, &name)?;
            let prefix = (context.scope.clone(), name.clone()).to_bytes();
            if transaction.prefix::<Task>(&prefix).any(|task| task.status != TaskStatus::Stopped) {
                return Err(cluster_contains_tasks_exception(
                    "The Cluster cannot be deleted while Tasks are active.",
                ));
            }
            cluster.status = ClusterStatus::Inactive;
            cluster.deleted_at = Some(context.now);
            transaction.put(cluster.clone());
            Ok(cluster)
        })
        .await?;
    Ok(types::DeleteClusterResponse {
        cluster: Some(convert::cluster(&cluster, ClusterCounts::default(), &ALL_FIELDS)),
    })
}
