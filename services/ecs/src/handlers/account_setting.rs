//! Account settings: what is in force, told truly. Changing one is not implemented.

use std::sync::Arc;

use wharf_core::{ApiError, RequestContext};
use wharf_ecs_api::types;

use crate::pages::PageRequest;
use crate::reconcile::Platform;

/// What holds for every account: long ARNs everywhere, no trunking, no insights, and logs that do not
/// block their container.
const IN_FORCE: [(&str, &str); 6] = [
    ("awsvpcTrunking", "disabled"),
    ("containerInsights", "disabled"),
    ("containerInstanceLongArnFormat", "enabled"),
    ("defaultLogDriverMode", "non-blocking"),
    ("serviceLongArnFormat", "enabled"),
    ("taskLongArnFormat", "enabled"),
];

/// Without `effectiveSettings` AWS lists what was set; nothing can be.
pub async fn list_account_settings(
    _platform: &Arc<Platform>,
    context: &RequestContext,
    input: types::ListAccountSettingsRequest,
) -> Result<types::ListAccountSettingsResponse, ApiError> {
    let max_results = input.max_results.filter(|max| *max != 0);
    let page = PageRequest::new("ListAccountSettings".to_owned(), input.next_token.as_deref(), max_results)?;
    let principal = input.principal_arn.unwrap_or_else(|| context.principal.arn(context.partition()));
    let wanted = |(name, value): &&(&str, &str)| {
        input.name.as_ref().is_none_or(|of| of.as_str() == *name)
            && input.value.as_ref().is_none_or(|of| of == value)
            && page.after.as_deref().is_none_or(|after| *name > after)
    };
    let effective = input.effective_settings == Some(true);
    let found = IN_FORCE.iter().filter(|_| effective).filter(wanted);
    let page = page.take(found, |(name, _)| (*name).to_owned());
    let settings = page
        .items
        .into_iter()
        .map(|(name, value)| types::Setting {
            name: Some((*name).into()),
            value: Some((*value).to_owned()),
            principal_arn: Some(principal.clone()),
            r#type: Some(types::SettingType::User),
        })
        .collect();
    Ok(types::ListAccountSettingsResponse { settings: Some(settings), next_token: page.next_token })
}
