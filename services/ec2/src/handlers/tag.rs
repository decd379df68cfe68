//! `CreateTags`, `DeleteTags`, `DescribeTags`.

use wharf_core::{ApiError, RequestContext};
use wharf_ec2_api::types;

use crate::Ec2Service;
use crate::records::ResourceTags;
use crate::select::{FilterField, Kind, Selection, check_dry_run, select, texts};
use crate::tags;
use crate::view::View;

/// Resources in one request, at most (EC2 API Reference, `CreateTags`).
const RESOURCES_MAX: usize = 1000;

fn check_count(resources: &[String]) -> Result<(), ApiError> {
    if resources.len() > RESOURCES_MAX {
        let message = format!("A request names at most {RESOURCES_MAX} resources.");
        return Err(ApiError::sender("InvalidParameterValue", message));
    }
    Ok(())
}

pub async fn create(
    ec2: &Ec2Service,
    context: &RequestContext,
    input: types::CreateTagsRequest,
) -> Result<(), ApiError> {
    check_dry_run(input.dry_run)?;
    check_count(&input.resources)?;
    let tags = tags::from_api(Some(&input.tags))?;
    let scope = &context.scope;
    // The default network's resources can be tagged before anything else was done with them.
    ec2.view(scope).await?;
    ec2.store
        .transact(|transaction| {
            for id in &input.resources {
                tags::check_exists(transaction, scope, id)?;
                tags::put(transaction, scope, id, &tags)?;
            }
            Ok::<_, ApiError>(())
        })
        .await?;
    Ok(())
}

pub async fn delete(
    ec2: &Ec2Service,
    context: &RequestContext,
    input: types::DeleteTagsRequest,
) -> Result<(), ApiError> {
    check_dry_run(input.dry_run)?;
    check_count(&input.resources)?;
    let scope = &context.scope;
    ec2.view(scope).await?;
    ec2.store
        .transact(|transaction| {
            for id in &input.resources {
                tags::check_exists(transaction, scope, id)?;
                tags::remove(transaction, scope, id, input.tags.as_deref());
            }
            Ok::<_, ApiError>(())
        })
        .await?;
    Ok(())
}

/// One tag of one resource, with the text that orders it among all.
struct Listed {
    order: String,
    tag: types::TagDescription,
}

const FILTERS: &[FilterField<Listed>] = &[
    ("key", |listed| texts(listed.tag.key.as_ref())),
    ("value", |listed| texts(listed.tag.value.as_ref())),
    ("resource-id", |listed| texts(listed.tag.resource_id.as_ref())),
    ("resource-type", |listed| texts(listed.tag.resource_type.as_ref())),
];

const KIND: Kind<Listed> = Kind {
    id: |listed| &listed.order,
    not_found: "InvalidID",
    noun: "ID",
    parameter: "Resources",
    filters: FILTERS,
    tags: |_| &[],
};

pub fn describe(
    view: &View,
    input: types::DescribeTagsRequest,
) -> Result<types::DescribeTagsResult, ApiError> {
    check_dry_run(input.dry_run)?;
    let selection = Selection {
        ids: Vec::new(),
        filters: input.filters.unwrap_or_default(),
        max_results: input.max_results,
        next_token: input.next_token,
    };
    let mut all = Vec::new();
    for record in view.all::<ResourceTags>() {
        for (number, (key, value)) in record.tags.iter().enumerate() {
            all.push(Listed {
                order: format!("{}-{number:02}", record.id),
                tag: types::TagDescription {
                    key: Some(key.clone()),
                    value: Some(value.clone()),
                    resource_id: Some(record.id.clone()),
                    resource_type: tags::kind_of(&record.id).map(types::ResourceType::from),
                },
            });
        }
    }
    let (listed, next_token) = select(&KIND, all, &selection)?;
    Ok(types::DescribeTagsResult { tags: Some(listed.into_iter().map(|one| one.tag).collect()), next_token })
}
