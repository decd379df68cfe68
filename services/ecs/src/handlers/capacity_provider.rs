//! Capacity providers: the two that AWS has built in.
//!
//! `FARGATE_SPOT` tasks run as `FARGATE` tasks do; capacity that is spare is all that there is, and
//! nobody takes it back.

use std::sync::Arc;

use wharf_core::{ApiError, Arn, RequestContext};
use wharf_ecs_api::errors::{client_exception, invalid_parameter_exception};
use wharf_ecs_api::types;

use super::cluster;
use crate::names;
use crate::pages::PageRequest;
use crate::reconcile::Platform;
use crate::records::StrategyItem;

pub const BUILT_IN: [&str; 2] = ["FARGATE", "FARGATE_SPOT"];

const STRATEGY_ITEMS_MAX: usize = 20;
const WEIGHT_MAX: i32 = 1000;
const BASE_MAX: i32 = 100_000;

/// # Errors
/// `InvalidParameterException` when a number is out of AWS's range, or two items have a base.
pub fn strategy(given: Vec<types::CapacityProviderStrategyItem>) -> Result<Vec<StrategyItem>, ApiError> {
    if given.len() > STRATEGY_ITEMS_MAX {
        return Err(invalid_parameter_exception("A capacity provider strategy has at most 20 items."));
    }
    let mut items: Vec<StrategyItem> = Vec::with_capacity(given.len());
    for item in given {
        let within = |value: Option<i32>, max: i32, default: i32, name: &str| {
            let value = value.unwrap_or(default);
            u32::try_from(value).ok().filter(|_| value <= max).ok_or_else(|| {
                invalid_parameter_exception(format!(
                    "The {name} of a capacity provider strategy item is between 0 and {max}."
                ))
            })
        };
        let weight = within(item.weight, WEIGHT_MAX, 0, "weight")?;
        let base = within(item.base, BASE_MAX, 0, "base")?;
        if items.iter().any(|known| known.provider == item.capacity_provider) {
            return Err(invalid_parameter_exception(
                "A capacity provider may be used only once in a strategy.",
            ));
        }
        items.push(StrategyItem { provider: item.capacity_provider, weight, base });
    }
    if items.iter().filter(|item| item.base > 0).count() > 1 {
        return Err(invalid_parameter_exception(
            "Only one capacity provider in a capacity provider strategy can have a base defined.",
        ));
    }
    // AWS counts a missing weight as 1 where nothing else is said.
    if items.len() == 1 && items[0].weight == 0 && items[0].base == 0 {
        items[0].weight = 1;
    }
    if !items.is_empty() && items.iter().all(|item| item.weight == 0) {
        return Err(invalid_parameter_exception(
            "At least one capacity provider in a strategy must have a weight greater than 0.",
        ));
    }
    Ok(items)
}

/// # Errors
/// `InvalidParameterException` for a provider that is not there, or is not one of the cluster's.
pub fn check(providers: &[String], strategy: &[StrategyItem]) -> Result<(), ApiError> {
    if let Some(unknown) = providers.iter().find(|name| !BUILT_IN.contains(&name.as_str())) {
        return Err(invalid_parameter_exception(format!(
            "The specified capacity provider {unknown} was not found."
        )));
    }
    if let Some(item) = strategy.iter().find(|item| !providers.contains(&item.provider)) {
        return Err(invalid_parameter_exception(format!(
            "The specified capacity provider {} is not associated with the cluster.",
            item.provider
        )));
    }
    Ok(())
}

pub async fn put_cluster_capacity_providers(
    platform: &Arc<Platform>,
    context: &RequestContext,
    input: types::PutClusterCapacityProvidersRequest,
) -> Result<types::PutClusterCapacityProvidersResponse, ApiError> {
    let name = names::cluster(context, Some(&input.cluster))?;
    let strategy = strategy(input.default_capacity_provider_strategy)?;
    let mut providers = input.capacity_providers;
    let mut seen = std::collections::BTreeSet::new();
    providers.retain(|provider| seen.insert(provider.clone()));
    check(&providers, &strategy)?;
    let cluster = cluster::change(platform, context, &name, |cluster| {
        cluster.capacity_providers = providers;
        cluster.default_strategy = strategy;
        Ok(())
    })
    .await?;
    Ok(types::PutClusterCapacityProvidersResponse { cluster: Some(cluster) })
}

pub async fn describe_capacity_providers(
    platform: &Arc<Platform>,
    context: &RequestContext,
    input: types::DescribeCapacityProvidersRequest,
) -> Result<types::DescribeCapacityProvidersResponse, ApiError> {
    let of_cluster = match input.cluster.as_deref().filter(|name| !name.is_empty()) {
        None => None,
        Some(name) => Some(cluster::find(platform, context, &names::cluster(context, Some(name))?).await?),
    };
    let page = PageRequest::new(
        "DescribeCapacityProviders".to_owned(),
        input.next_token.as_deref(),
        input.max_results,
    )?;
    let arn = |name: &str| {
        let resource = format!("capacity-provider/{name}");
        Arn::regional("ecs", context.region(), context.account(), resource).to_string()
    };
    let mut failures = Vec::new();
    let mut wanted: Vec<&str> = Vec::new();
    match &input.capacity_providers {
        None => wanted.extend(BUILT_IN),
        Some(given) if given.is_empty() => wanted.extend(BUILT_IN),
        Some(given) => {
            for identifier in given {
                let name =
                    identifier.rsplit_once("capacity-provider/").map_or(identifier.as_str(), |(_, n)| n);
                names::own_arn(context, identifier)?;
                match BUILT_IN.iter().find(|known| **known == name) {
                    Some(known) => wanted.push(known),
                    None => failures.push(types::Failure {
                        arn: Some(arn(name)),
                        reason: Some("MISSING".to_owned()),
                        detail: None,
                    }),
                }
            }
        }
    }
    if let Some(cluster) = &of_cluster {
        wanted.retain(|name| cluster.capacity_providers.iter().any(|of| of == name));
    }
    if input.include.iter().flatten().any(|field| matches!(field, types::CapacityProviderField::Unknown(_))) {
        return Err(client_exception("Invalid value for include."));
    }
    wanted.sort_unstable();
    wanted.dedup();
    let found = wanted.into_iter().filter(|name| page.after.as_deref().is_none_or(|after| *name > after));
    let page = page.take(found, |name| (*name).to_owned());
    let capacity_providers = page
        .items
        .into_iter()
        .map(|name| types::CapacityProvider {
            capacity_provider_arn: Some(arn(name)),
            name: Some(name.to_owned()),
            status: Some(types::CapacityProviderStatus::Active),
            tags: Some(Vec::new()),
            r#type: Some(name.into()),
            ..types::CapacityProvider::default()
        })
        .collect();
    Ok(types::DescribeCapacityProvidersResponse {
        capacity_providers: Some(capacity_providers),
        failures: Some(failures),
        next_token: page.next_token,
    })
}
