//! DescribeParameters.

use wharf_core::{ApiError, RequestContext};
use wharf_ssm_api::{errors, types};

use super::get::own_below;
use super::page::PageRequest;
use super::{Refusal, api_kind, api_policies, api_tier, given, kind_text, tier_text};
use crate::Ssm;
use crate::plan::filter::{self, Given, Listing, Subject};
use crate::plan::name::Depth;
use crate::records::{Parameter, ParameterVersion};

const DESCRIBED_MAX: usize = 50;

impl Ssm {
    pub(super) async fn describe_parameters(
        &self,
        context: &RequestContext,
        input: types::DescribeParametersRequest,
    ) -> Result<types::DescribeParametersResult, ApiError> {
        let filters = match (input.filters, input.parameter_filters) {
            (Some(_), Some(_)) => {
                return Err(errors::invalid_filter_key(
                    "You can use either Filters or ParameterFilters in a single request.",
                ));
            }
            (None, new) => given(new),
            (Some(old), None) => old.into_iter().map(legacy).collect(),
        };
        let filters = filter::parse(Listing::Describe, filters).map_err(Refusal::from)?;
        let page = PageRequest::new(
            "DescribeParameters",
            input.next_token.as_deref(),
            input.max_results,
            DESCRIBED_MAX,
        )?;
        if input.shared == Some(true) {
            // No other account can share a parameter yet, so none is shared.
            return Ok(types::DescribeParametersResult { parameters: Some(Vec::new()), next_token: None });
        }
        let snapshot = self.store.snapshot();
        let described = own_below(&snapshot, context, "/", Depth::Recursive, page.after.as_deref())
            .filter_map(|parameter| {
                let key = (parameter.scope.clone(), parameter.name.clone(), parameter.version);
                snapshot.get::<ParameterVersion>(&key).map(|version| (parameter, version))
            })
            .filter(|(parameter, version)| {
                let subject = Subject {
                    name: &parameter.name,
                    kind: kind_text(parameter.kind),
                    key_id: version.key.as_ref().map(|key| key.given.as_str()),
                    tier: tier_text(parameter.tier),
                    data_type: &version.data_type,
                    tags: &parameter.tags,
                    labels: &version.labels,
                };
                filters.iter().all(|filter| filter.matches(&subject))
            });
        let (described, next_token) = page.take(described, |(parameter, _)| parameter.name.clone());
        let parameters = described.iter().map(|(parameter, version)| metadata(parameter, version)).collect();
        Ok(types::DescribeParametersResult { parameters: Some(parameters), next_token })
    }
}

/// The deprecated filters: a name is the beginning of one.
fn legacy(filter: types::ParametersFilter) -> Given {
    let option = (filter.key == types::ParametersFilterKey::Name).then(|| "BeginsWith".to_owned());
    Given { key: filter.key.as_str().to_owned(), option, values: filter.values }
}

fn metadata(parameter: &Parameter, version: &ParameterVersion) -> types::ParameterMetadata {
    types::ParameterMetadata {
        arn: Some(parameter.arn()),
        allowed_pattern: version.allowed_pattern.clone(),
        data_type: Some(version.data_type.clone()),
        description: version.description.clone(),
        key_id: version.key.as_ref().map(|key| key.given.clone()),
        last_modified_date: Some(version.modified_at),
        last_modified_user: Some(version.modified_by.clone()),
        name: Some(parameter.name.clone()),
        policies: Some(api_policies(&parameter.policies)),
        tier: Some(api_tier(parameter.tier)),
        r#type: Some(api_kind(parameter.kind)),
        version: i64::try_from(parameter.version).ok(),
    }
}
