//! DescribeSecret, ListSecrets, ListSecretVersionIds.

use std::sync::Arc;

use wharf_core::{ApiError, RequestContext, Timestamp};
use wharf_secretsmanager_api::{errors, types};
use wharf_state::{Key as _, Snapshot};

use super::page::{Order, PageRequest};
use super::{labelled, tag, versions};
use crate::plan::filter::{Attribute, Filter, Subject};
use crate::records::{Secret, Version};
use crate::{SecretsManager, find, no_secret, parse_id};

const PAGE_MAX: usize = 100;
/// What a version's listing says of the key of who names none.
const DEFAULT_KEY: &str = "DefaultEncryptionKey";

impl SecretsManager {
    pub(super) async fn describe_secret(
        &self,
        context: &RequestContext,
        input: types::DescribeSecretRequest,
    ) -> Result<types::DescribeSecretResponse, ApiError> {
        let id = parse_id(&input.secret_id)?;
        let snapshot = self.store.snapshot();
        let secret = find(&snapshot, context, &id).ok_or_else(no_secret)?;
        let replication_status = self.replication_status(&secret);
        Ok(types::DescribeSecretResponse {
            arn: Some(secret.arn()),
            created_date: Some(secret.created_at),
            deleted_date: secret.deleted_at,
            description: secret.description.clone(),
            kms_key_id: secret.key.as_ref().map(|key| key.given.clone()),
            last_accessed_date: secret.accessed_on,
            last_changed_date: Some(secret.changed_at),
            name: Some(secret.name.clone()),
            primary_region: secret.primary_region().map(ToString::to_string),
            replication_status: (!replication_status.is_empty()).then_some(replication_status),
            tags: Some(tag::to_api(&secret.tags)),
            version_ids_to_stages: labelled(&versions(&snapshot, &secret)),
            ..Default::default()
        })
    }

    pub(super) async fn list_secrets(
        &self,
        context: &RequestContext,
        input: types::ListSecretsRequest,
    ) -> Result<types::ListSecretsResponse, ApiError> {
        let filters = from_api(input.filters.unwrap_or_default())?;
        let order = match input.sort_order {
            Some(types::SortOrderType::Desc) => Order::Descending,
            _ => Order::Ascending,
        };
        let sort_by = input.sort_by.unwrap_or(types::SortByType::CreatedDate);
        let listing = format!("ListSecrets {} {order:?}", sort_by.as_str());
        let page = PageRequest::new(listing, input.next_token.as_deref(), input.max_results, PAGE_MAX)?;
        let snapshot = self.store.snapshot();
        let planned = input.include_planned_deletion == Some(true);
        let secrets = matching(&snapshot, context, &filters).into_iter();
        let secrets = secrets.filter(|secret| planned || secret.deleted_at.is_none());
        let keyed = secrets.map(|secret| (sort_key(&secret, &sort_by), secret)).collect();
        let (secrets, next_token) = page.take(keyed, order);
        let entries = secrets.iter().map(|secret| entry(secret, &versions(&snapshot, secret))).collect();
        Ok(types::ListSecretsResponse { secret_list: Some(entries), next_token })
    }

    pub(super) async fn list_secret_version_ids(
        &self,
        context: &RequestContext,
        input: types::ListSecretVersionIdsRequest,
    ) -> Result<types::ListSecretVersionIdsResponse, ApiError> {
        let id = parse_id(&input.secret_id)?;
        let page = PageRequest::new(
            "ListSecretVersionIds".to_owned(),
            input.next_token.as_deref(),
            input.max_results,
            PAGE_MAX,
        )?;
        let snapshot = self.store.snapshot();
        let secret = find(&snapshot, context, &id).ok_or_else(no_secret)?;
        let deprecated = input.include_deprecated == Some(true);
        let versions = versions(&snapshot, &secret).into_iter();
        let versions = versions.filter(|version| deprecated || !version.stages.is_empty());
        let keyed =
            versions.map(|version| (date_key(Some(version.created_at), &version.id), version)).collect();
        let (versions, next_token) = page.take(keyed, Order::Ascending);
        Ok(types::ListSecretVersionIdsResponse {
            arn: Some(secret.arn()),
            name: Some(secret.name.clone()),
            next_token,
            versions: Some(versions.iter().map(|version| version_entry(version)).collect()),
        })
    }
}

/// The caller's secrets that pass, marked for deletion or not.
pub fn matching(snapshot: &Snapshot, context: &RequestContext, filters: &[Filter]) -> Vec<Arc<Secret>> {
    snapshot
        .prefix::<Secret>(&context.scope.to_bytes())
        .filter(|secret| secret.deleted_at.is_none_or(|at| at > context.now))
        .filter(|secret| {
            let subject = Subject {
                name: &secret.name,
                description: secret.description.as_deref().unwrap_or_default(),
                tags: &secret.tags,
                primary_region: secret.primary_region().map(wharf_core::Region::as_str),
            };
            filters.iter().all(|filter| filter.matches(&subject))
        })
        .collect()
}

/// # Errors
/// For a filter without a key or without values.
pub fn from_api(filters: Vec<types::Filter>) -> Result<Vec<Filter>, ApiError> {
    filters
        .into_iter()
        .map(|filter| {
            let key = match filter.key.as_ref().map(types::FilterNameStringType::as_str) {
                Some("description") => Attribute::Description,
                Some("name") => Attribute::Name,
                Some("tag-key") => Attribute::TagKey,
                Some("tag-value") => Attribute::TagValue,
                Some("primary-region") => Attribute::PrimaryRegion,
                Some("owning-service") => Attribute::OwningService,
                Some("all") => Attribute::All,
                _ => return Err(errors::invalid_parameter_exception("Invalid filter key")),
            };
            match filter.values {
                Some(values) if !values.is_empty() => Ok(Filter { key, values }),
                _ => Err(errors::invalid_parameter_exception(
                    "Invalid filter values for key: a filter needs values",
                )),
            }
        })
        .collect()
}

/// Sorts as the date does; what has none stands first.
fn date_key(date: Option<Timestamp>, name: &str) -> String {
    let millis = date.map_or(0, |date| u64::try_from(date.as_millis()).unwrap_or(0));
    format!("{millis:020} {name}")
}

fn sort_key(secret: &Secret, sort_by: &types::SortByType) -> String {
    match sort_by.as_str() {
        "name" => secret.name.clone(),
        "last-accessed-date" => date_key(secret.accessed_on, &secret.name),
        "last-changed-date" => date_key(Some(secret.changed_at), &secret.name),
        _ => date_key(Some(secret.created_at), &secret.name),
    }
}

fn entry(secret: &Secret, versions: &[Arc<Version>]) -> types::SecretListEntry {
    types::SecretListEntry {
        arn: Some(secret.arn()),
        created_date: Some(secret.created_at),
        deleted_date: secret.deleted_at,
        description: secret.description.clone(),
        kms_key_id: secret.key.as_ref().map(|key| key.given.clone()),
        last_accessed_date: secret.accessed_on,
        last_changed_date: Some(secret.changed_at),
        name: Some(secret.name.clone()),
        primary_region: secret.primary_region().map(ToString::to_string),
        secret_versions_to_stages: labelled(versions),
        tags: Some(tag::to_api(&secret.tags)),
        ..Default::default()
    }
}

fn version_entry(version: &Version) -> types::SecretVersionsListEntry {
    let key = version.key.as_ref().map_or(DEFAULT_KEY, |key| key.given.as_str());
    let stages: Vec<String> = version.stages.iter().cloned().collect();
    types::SecretVersionsListEntry {
        created_date: Some(version.created_at),
        kms_key_ids: Some(vec![key.to_owned()]),
        last_accessed_date: version.accessed_on,
        version_id: Some(version.id.clone()),
        version_stages: (!stages.is_empty()).then_some(stages),
    }
}
