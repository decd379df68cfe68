//! Log groups (API Reference: CreateLogGroup, DeleteLogGroup, DescribeLogGroups, PutRetentionPolicy,
//! DeleteRetentionPolicy).

use std::sync::Arc;

use wharf_core::{ApiError, RequestContext};
use wharf_logs_api::{errors, types};
use wharf_state::{Key as _, Record as _, Snapshot};

use super::{decode_token, page, refused};
use crate::records::{LogGroup, LogStream};
use crate::{Logs, doom, no_group};

const PAGE_MAX: i32 = 50;
/// The retention times that PutRetentionPolicy takes, in days.
const RETENTION_DAYS: [i32; 22] =
    [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653];

impl Logs {
    pub(super) async fn create_log_group(
        &self,
        context: &RequestContext,
        input: types::CreateLogGroupRequest,
    ) -> Result<(), ApiError> {
        if input.kms_key_id.is_some() {
            return Err(refused("CreateLogGroup", "kmsKeyId"));
        }
        if input.deletion_protection_enabled == Some(true) {
            return Err(refused("CreateLogGroup", "deletionProtectionEnabled"));
        }
        if input.log_group_class.is_some_and(|class| class != types::LogGroupClass::Standard) {
            return Err(refused("CreateLogGroup", "logGroupClass"));
        }
        let group = LogGroup {
            scope: context.scope.clone(),
            name: input.log_group_name,
            created_at: context.now,
            retention_days: None,
            tags: input.tags.unwrap_or_default(),
        };
        self.store
            .transact(|transaction| {
                if transaction.get::<LogGroup>(&group.key()).is_some() {
                    return Err(errors::resource_already_exists_exception(
                        "The specified log group already exists",
                    ));
                }
                transaction.put(group);
                Ok(())
            })
            .await
            .map_err(ApiError::from)
    }

    pub(super) async fn delete_log_group(
        &self,
        context: &RequestContext,
        input: types::DeleteLogGroupRequest,
    ) -> Result<(), ApiError> {
        let key = (context.scope.clone(), input.log_group_name);
        self.store
            .transact(|transaction| {
                let group = transaction.delete::<LogGroup>(&key).ok_or_else(no_group)?;
                let streams: Vec<_> = transaction.prefix::<LogStream>(&group.streams_prefix()).collect();
                for stream in streams {
                    doom(transaction, &stream);
                }
                Ok(())
            })
            .await
            .map_err(ApiError::from)?;
        self.swept.notify_one();
        Ok(())
    }

    pub(super) async fn describe_log_groups(
        &self,
        context: &RequestContext,
        input: types::DescribeLogGroupsRequest,
    ) -> Result<types::DescribeLogGroupsResponse, ApiError> {
        if input.account_identifiers.is_some() {
            return Err(refused("DescribeLogGroups", "accountIdentifiers"));
        }
        if input.include_linked_accounts == Some(true) {
            return Err(refused("DescribeLogGroups", "includeLinkedAccounts"));
        }
        if input.log_group_identifiers.is_some() {
            return Err(refused("DescribeLogGroups", "logGroupIdentifiers"));
        }
        if input.log_group_name_prefix.is_some() && input.log_group_name_pattern.is_some() {
            return Err(errors::invalid_parameter_exception(
                "LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.",
            ));
        }
        let token = decode_token(input.next_token.as_deref())?;
        let prefix = input.log_group_name_prefix.unwrap_or_default();
        let pattern = input.log_group_name_pattern.map(|pattern| pattern.to_lowercase());
        let standard_only = input.log_group_class.is_none_or(|class| class == types::LogGroupClass::Standard);
        let snapshot = self.store.snapshot();
        let groups = snapshot.prefix::<LogGroup>(&context.scope.to_bytes()).filter(|group| {
            standard_only
                && group.name.starts_with(&prefix)
                && pattern.as_ref().is_none_or(|pattern| group.name.to_lowercase().contains(pattern.as_str()))
        });
        let limit = usize::try_from(input.limit.unwrap_or(PAGE_MAX)).unwrap_or(1);
        let (groups, next_token) = page(groups, |group: &Arc<LogGroup>| &group.name, token.as_deref(), limit);
        Ok(types::DescribeLogGroupsResponse {
            log_groups: Some(groups.iter().map(|group| describe(&snapshot, group)).collect()),
            next_token,
        })
    }

    pub(super) async fn put_retention_policy(
        &self,
        context: &RequestContext,
        input: types::PutRetentionPolicyRequest,
    ) -> Result<(), ApiError> {
        let days = input.retention_in_days;
        if !RETENTION_DAYS.contains(&days) {
            return Err(errors::invalid_parameter_exception(format!(
                "1 validation error detected: Value '{days}' at 'retentionInDays' failed to satisfy constraint: \
                 Member must satisfy enum value set: [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, \
                 1096, 1827, 2192, 2557, 2922, 3288, 3653]"
            )));
        }
        self.set_retention(context, input.log_group_name, Some(days.unsigned_abs())).await
    }

    pub(super) async fn delete_retention_policy(
        &self,
        context: &RequestContext,
        input: types::DeleteRetentionPolicyRequest,
    ) -> Result<(), ApiError> {
        self.set_retention(context, input.log_group_name, None).await
    }

    async fn set_retention(
        &self,
        context: &RequestContext,
        name: String,
        days: Option<u32>,
    ) -> Result<(), ApiError> {
        let key = (context.scope.clone(), name);
        self.store
            .transact(|transaction| {
                let mut group = LogGroup::clone(&*transaction.get::<LogGroup>(&key).ok_or_else(no_group)?);
                group.retention_days = days;
                transaction.put(group);
                Ok(())
            })
            .await
            .map_err(ApiError::from)?;
        self.swept.notify_one();
        Ok(())
    }
}

fn describe(snapshot: &Snapshot, group: &LogGroup) -> types::LogGroup {
    let stored: u64 =
        snapshot.prefix::<LogStream>(&group.streams_prefix()).map(|stream| stream.stored_bytes).sum();
    types::LogGroup {
        arn: Some(format!("{}:*", group.arn())),
        log_group_arn: Some(group.arn()),
        creation_time: Some(group.created_at.as_millis()),
        log_group_class: Some(types::LogGroupClass::Standard),
        log_group_name: Some(group.name.clone()),
        metric_filter_count: Some(0),
        retention_in_days: group.retention_days.map(u32::cast_signed),
        stored_bytes: Some(i64::try_from(stored).unwrap_or(i64::MAX)),
        ..types::LogGroup::default()
    }
}
