//! The operations of the API, one file a subject. Here they are only put behind the trait.

mod delete;
mod describe;
mod get;
mod label;
mod page;
mod put;
mod tag;

use async_trait::async_trait;
use wharf_core::{ApiError, RequestContext, Scope};
use wharf_ssm_api::{Ssm as Api, errors, types};

use crate::Ssm;
use crate::plan::filter::{FilterError, Given};
use crate::plan::name::{Reference, ReferenceError};
use crate::plan::policy::Policy;
use crate::plan::value::{Kind, Tier};

pub use get::{Found, public_arn};

/// Puts methods of [`Ssm`] behind the generated trait.
macro_rules! operations {
    ($($name:ident($input:ty) -> $output:ty;)*) => {
        #[async_trait]
        impl Api for Ssm {
            $(async fn $name(&self, context: &RequestContext, input: $input) -> Result<$output, ApiError> {
                Ssm::$name(self, context, input).await
            })*
        }
    };
}

operations! {
    put_parameter(types::PutParameterRequest) -> types::PutParameterResult;
    get_parameter(types::GetParameterRequest) -> types::GetParameterResult;
    get_parameters(types::GetParametersRequest) -> types::GetParametersResult;
    get_parameters_by_path(types::GetParametersByPathRequest) -> types::GetParametersByPathResult;
    get_parameter_history(types::GetParameterHistoryRequest) -> types::GetParameterHistoryResult;
    describe_parameters(types::DescribeParametersRequest) -> types::DescribeParametersResult;
    delete_parameter(types::DeleteParameterRequest) -> types::DeleteParameterResult;
    delete_parameters(types::DeleteParametersRequest) -> types::DeleteParametersResult;
    label_parameter_version(types::LabelParameterVersionRequest) -> types::LabelParameterVersionResult;
    unlabel_parameter_version(types::UnlabelParameterVersionRequest) -> types::UnlabelParameterVersionResult;
    add_tags_to_resource(types::AddTagsToResourceRequest) -> types::AddTagsToResourceResult;
    remove_tags_from_resource(types::RemoveTagsFromResourceRequest) -> types::RemoveTagsFromResourceResult;
    list_tags_for_resource(types::ListTagsForResourceRequest) -> types::ListTagsForResourceResult;
}

/// The error for a field that is understood and not done.
fn refused(operation: &str, field: &str) -> ApiError {
    ApiError::not_implemented(format_args!("the field \"{field}\" of ssm:{operation}"))
}

fn validation(message: impl Into<String>) -> ApiError {
    ApiError::sender("ValidationException", message)
}

const NAME_RULES: &str = "Parameter name: can't be prefixed with \"ssm\" (case-insensitive). If formed as a path, it \
    can consist of sub-paths divided by slash symbol; each sub-path can be formed as a mix of letters, numbers and \
    the following 3 symbols .-_";

impl From<ReferenceError> for Refusal {
    fn from(_: ReferenceError) -> Self {
        Self(validation(NAME_RULES))
    }
}

impl From<FilterError> for Refusal {
    fn from(error: FilterError) -> Self {
        Self(match error {
            FilterError::Key(message) => errors::invalid_filter_key(message),
            FilterError::Option(message) => errors::invalid_filter_option(message),
            FilterError::Value(message) => errors::invalid_filter_value(message),
            FilterError::Validation(message) => validation(message),
        })
    }
}

/// A plan's error in AWS's words.
struct Refusal(ApiError);

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        refusal.0
    }
}

/// How the names of references to secrets begin, which AWS resolves by way of Secrets Manager.
const SECRET_REFERENCE: &str = "/aws/reference/secretsmanager/";

/// The names that a text may stand for in the caller's scope; none when it points elsewhere.
pub fn names_here(scope: &Scope, text: &str) -> Result<Reference, ApiError> {
    if text.starts_with(SECRET_REFERENCE) {
        return Err(ApiError::not_implemented(format_args!("parameters below {SECRET_REFERENCE}")));
    }
    let mut reference = Reference::parse(text).map_err(Refusal::from)?;
    if reference
        .place
        .as_ref()
        .is_some_and(|(account, region)| *account != scope.account || *region != scope.region)
    {
        reference.names.clear();
    }
    Ok(reference)
}

/// A name that stands for itself: operations that change something take no ARN and no selector.
fn plain_name(text: &str) -> Result<String, ApiError> {
    let reference = Reference::parse(text).map_err(Refusal::from)?;
    match (reference.place, reference.selector, reference.names.into_iter().next()) {
        (None, None, Some(name)) => Ok(name),
        _ => Err(validation(NAME_RULES)),
    }
}

fn given(filters: Option<Vec<types::ParameterStringFilter>>) -> Vec<Given> {
    let filters = filters.unwrap_or_default().into_iter();
    filters
        .map(|filter| Given {
            key: filter.key,
            option: filter.option,
            values: filter.values.unwrap_or_default(),
        })
        .collect()
}

fn kind_text(kind: Kind) -> &'static str {
    match kind {
        Kind::String => "String",
        Kind::StringList => "StringList",
        Kind::SecureString => "SecureString",
    }
}

fn api_kind(kind: Kind) -> types::ParameterType {
    kind_text(kind).into()
}

fn tier_text(tier: Tier) -> &'static str {
    match tier {
        Tier::Standard => "Standard",
        Tier::Advanced => "Advanced",
    }
}

fn api_tier(tier: Tier) -> types::ParameterTier {
    tier_text(tier).into()
}

/// Every policy that is kept waits for its day: an `Expiration` that has been applied has no
/// parameter any more.
fn api_policies(policies: &[Policy]) -> Vec<types::ParameterInlinePolicy> {
    let policies = policies.iter().map(|policy| types::ParameterInlinePolicy {
        policy_text: Some(policy.text.clone()),
        policy_type: Some("Expiration".to_owned()),
        policy_status: Some("Pending".to_owned()),
    });
    policies.collect()
}
