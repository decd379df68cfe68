//! Tags of log groups (API Reference: TagResource, UntagResource, ListTagsForResource and the older
//! TagLogGroup, UntagLogGroup, ListTagsLogGroup).

use std::collections::BTreeMap;

use wharf_core::{ApiError, RequestContext};
use wharf_logs_api::{errors, types};

use crate::records::{LogGroup, group_of_arn};
use crate::{Logs, find_group, no_group};

const TAGS_MAX: usize = 50;

impl Logs {
    pub(super) async fn tag_log_group(
        &self,
        context: &RequestContext,
        input: types::TagLogGroupRequest,
    ) -> Result<(), ApiError> {
        self.change_tags(context, input.log_group_name, |tags| tags.extend(input.tags)).await
    }

    pub(super) async fn untag_log_group(
        &self,
        context: &RequestContext,
        input: types::UntagLogGroupRequest,
    ) -> Result<(), ApiError> {
        self.change_tags(context, input.log_group_name, |tags| {
            tags.retain(|key, _| !input.tags.contains(key));
        })
        .await
    }

    pub(super) async fn list_tags_log_group(
        &self,
        context: &RequestContext,
        input: types::ListTagsLogGroupRequest,
    ) -> Result<types::ListTagsLogGroupResponse, ApiError> {
        let group = find_group(&self.store.snapshot(), &context.scope, &input.log_group_name)?;
        Ok(types::ListTagsLogGroupResponse { tags: Some(group.tags.clone()) })
    }

    pub(super) async fn tag_resource(
        &self,
        context: &RequestContext,
        input: types::TagResourceRequest,
    ) -> Result<(), ApiError> {
        let name = named(context, &input.resource_arn)?;
        self.change_tags(context, name, |tags| tags.extend(input.tags)).await
    }

    pub(super) async fn untag_resource(
        &self,
        context: &RequestContext,
        input: types::UntagResourceRequest,
    ) -> Result<(), ApiError> {
        let name = named(context, &input.resource_arn)?;
        self.change_tags(context, name, |tags| tags.retain(|key, _| !input.tag_keys.contains(key))).await
    }

    pub(super) async fn list_tags_for_resource(
        &self,
        context: &RequestContext,
        input: types::ListTagsForResourceRequest,
    ) -> Result<types::ListTagsForResourceResponse, ApiError> {
        let name = named(context, &input.resource_arn)?;
        let group = find_group(&self.store.snapshot(), &context.scope, &name)?;
        Ok(types::ListTagsForResourceResponse { tags: Some(group.tags.clone()) })
    }

    async fn change_tags(
        &self,
        context: &RequestContext,
        name: String,
        change: impl FnOnce(&mut BTreeMap<String, String>) + Send,
    ) -> Result<(), ApiError> {
        let key = (context.scope.clone(), name);
        self.store
            .transact(|transaction| {
                let mut group = LogGroup::clone(&*transaction.get::<LogGroup>(&key).ok_or_else(no_group)?);
                change(&mut group.tags);
                if group.tags.len() > TAGS_MAX {
                    return Err(ApiError::sender(
                        "TooManyTagsException",
                        format!("A resource can have no more than {TAGS_MAX} tags."),
                    ));
                }
                transaction.put(group);
                Ok(())
            })
            .await
            .map_err(ApiError::from)
    }
}

fn named(context: &RequestContext, arn: &str) -> Result<String, ApiError> {
    group_of_arn(&context.scope, arn)
        .ok_or_else(|| errors::invalid_parameter_exception(format!("Invalid resource ARN: {arn}")))
}
