//! TagResource, UntagResource.

use std::collections::BTreeMap;

use wharf_contracts::Check;
use wharf_core::{ApiError, RequestContext};
use wharf_secretsmanager_api::{errors, types};

use crate::authorization::check_after;
use crate::change::Change;
use crate::records::Secret;
use crate::{SecretsManager, parse_id, source};

/// Tags of one secret.
const TAGS_MAX: usize = 50;

type Tags = BTreeMap<String, String>;

impl SecretsManager {
    pub(super) async fn tag_resource(
        &self,
        context: &RequestContext,
        input: types::TagResourceRequest,
    ) -> Result<(), ApiError> {
        let added = from_api(input.tags)?;
        let id = input.secret_id.as_str();
        self.change_tags(context, id, |secret| {
            secret.tags.extend(added.clone());
            check_after(secret, "secretsmanager:TagResource", id).with_request_tags(&added)
        })
        .await
    }

    pub(super) async fn untag_resource(
        &self,
        context: &RequestContext,
        input: types::UntagResourceRequest,
    ) -> Result<(), ApiError> {
        let id = input.secret_id.as_str();
        self.change_tags(context, id, |secret| {
            secret.tags.retain(|key, _| !input.tag_keys.contains(key));
            check_after(secret, "secretsmanager:UntagResource", id)
                .with_tag_keys(input.tag_keys.iter().cloned())
        })
        .await
    }

    /// Nobody may tag a secret out of their own reach: what `edit` asks for must be allowed of the
    /// secret as it would be.
    async fn change_tags(
        &self,
        context: &RequestContext,
        id: &str,
        edit: impl FnOnce(&mut Secret) -> Check,
    ) -> Result<(), ApiError> {
        let id = parse_id(id)?;
        self.store
            .transact(|transaction| {
                let mut change = Change::begin(transaction, context, &self.vault, &id)?;
                let check = edit(&mut change.secret);
                check_count(&change.secret.tags)?;
                source::ask(&*self.authorizer, context, check, &[])?;
                change.finish().map(|_| ())
            })
            .await
            .map_err(ApiError::from)
    }
}

/// # Errors
/// When there are too many tags, one twice, or one that is reserved for AWS.
pub fn from_api(given: Vec<types::Tag>) -> Result<Tags, ApiError> {
    let mut tags = Tags::new();
    for tag in given {
        let key = tag.key.unwrap_or_default();
        if key.is_empty() {
            return Err(errors::invalid_parameter_exception("A tag needs a key."));
        }
        if key.get(..4).is_some_and(|head| head.eq_ignore_ascii_case("aws:")) {
            return Err(errors::invalid_parameter_exception(
                "Tag keys that begin with \"aws:\" are reserved for AWS use.",
            ));
        }
        if tags.insert(key.clone(), tag.value.unwrap_or_default()).is_some() {
            return Err(errors::invalid_parameter_exception(format!("Duplicate tag key: {key}")));
        }
    }
    check_count(&tags)?;
    Ok(tags)
}

fn check_count(tags: &Tags) -> Result<(), ApiError> {
    if tags.len() > TAGS_MAX {
        return Err(errors::invalid_parameter_exception(format!(
            "A secret can have at most {TAGS_MAX} tags."
        )));
    }
    Ok(())
}

pub fn to_api(tags: &Tags) -> Vec<types::Tag> {
    tags.iter()
        .map(|(key, value)| types::Tag { key: Some(key.clone()), value: Some(value.clone()) })
        .collect()
}
