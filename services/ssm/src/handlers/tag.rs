//! AddTagsToResource, RemoveTagsFromResource, ListTagsForResource.

use std::collections::BTreeMap;

use wharf_core::{ApiError, RequestContext};
use wharf_ssm_api::{errors, types};

use super::validation;
use crate::plan::name::Reference;
use crate::records::Parameter;
use crate::{Ssm, find, has_expired};

/// Tags of one parameter.
const TAGS_MAX: usize = 50;

type Tags = BTreeMap<String, String>;

impl Ssm {
    pub(super) async fn add_tags_to_resource(
        &self,
        context: &RequestContext,
        input: types::AddTagsToResourceRequest,
    ) -> Result<types::AddTagsToResourceResult, ApiError> {
        let name = parameter_name(&input.resource_type, &input.resource_id)?;
        let added = from_api(input.tags)?;
        self.change_tags(context, name, |tags| tags.extend(added)).await?;
        Ok(types::AddTagsToResourceResult {})
    }

    pub(super) async fn remove_tags_from_resource(
        &self,
        context: &RequestContext,
        input: types::RemoveTagsFromResourceRequest,
    ) -> Result<types::RemoveTagsFromResourceResult, ApiError> {
        let name = parameter_name(&input.resource_type, &input.resource_id)?;
        self.change_tags(context, name, |tags| tags.retain(|key, _| !input.tag_keys.contains(key))).await?;
        Ok(types::RemoveTagsFromResourceResult {})
    }

    pub(super) async fn list_tags_for_resource(
        &self,
        context: &RequestContext,
        input: types::ListTagsForResourceRequest,
    ) -> Result<types::ListTagsForResourceResult, ApiError> {
        let name = parameter_name(&input.resource_type, &input.resource_id)?;
        let snapshot = self.store.snapshot();
        let parameter = find(&snapshot, &context.scope, &name, context.now).ok_or_else(no_resource)?;
        let tags = parameter.tags.iter();
        let tags = tags.map(|(key, value)| types::Tag { key: key.clone(), value: value.clone() }).collect();
        Ok(types::ListTagsForResourceResult { tag_list: Some(tags) })
    }

    async fn change_tags(
        &self,
        context: &RequestContext,
        name: String,
        change: impl FnOnce(&mut Tags),
    ) -> Result<(), ApiError> {
        self.store
            .transact(|transaction| {
                let parameter = transaction
                    .get::<Parameter>(&(context.scope.clone(), name))
                    .filter(|parameter| !has_expired(parameter, context.now))
                    .ok_or_else(no_resource)?;
                let mut parameter = Parameter::clone(&parameter);
                change(&mut parameter.tags);
                check_count(&parameter.tags)?;
                transaction.put(parameter);
                Ok(())
            })
            .await
            .map_err(ApiError::from)
    }
}

/// Other kinds of resources do not exist here, so that no id names one.
fn parameter_name(kind: &types::ResourceTypeForTagging, id: &str) -> Result<String, ApiError> {
    if *kind != types::ResourceTypeForTagging::Parameter {
        return Err(no_resource());
    }
    let reference = Reference::parse(id).map_err(|_| no_resource())?;
    match (reference.place, reference.selector, reference.names.into_iter().next()) {
        (None, None, Some(name)) => Ok(name),
        _ => Err(no_resource()),
    }
}

fn no_resource() -> ApiError {
    errors::invalid_resource_id("Invalid Resource Id")
}

/// # Errors
/// When there are too many tags, or one is reserved for AWS.
pub fn from_api(given: Vec<types::Tag>) -> Result<Tags, ApiError> {
    let mut tags = Tags::new();
    for tag in given {
        if tag.key.get(..4).is_some_and(|head| head.eq_ignore_ascii_case("aws:")) {
            return Err(validation("Tag keys can't be prefixed with \"aws:\" (case-insensitive)."));
        }
        if let Some(twice) = tags.insert(tag.key.clone(), tag.value).map(|_| tag.key) {
            return Err(validation(format!("Duplicate tag key: {twice}")));
        }
    }
    check_count(&tags)?;
    Ok(tags)
}

fn check_count(tags: &Tags) -> Result<(), ApiError> {
    if tags.len() > TAGS_MAX {
        return Err(errors::too_many_tags_error(
            "The Targets parameter includes too many tags. Remove one or more tags and try the command again.",
        ));
    }
    Ok(())
}
