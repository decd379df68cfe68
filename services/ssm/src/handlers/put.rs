//! PutParameter.

use std::collections::BTreeMap;
use std::sync::Arc;

use wharf_core::{ApiError, RequestContext, Scope};
use wharf_ssm_api::{errors, types};
use wharf_state::Transaction;
use wharf_vault::Secret;

use super::{NAME_RULES, api_tier, refused, tag, validation};
use crate::plan::name::{self, LEVELS_MAX, NameError, QUALIFIED_CHARS_MAX};
use crate::plan::policy::{self, Policy, PolicyError};
use crate::plan::value::{
    self, ADVANCED_BYTES_MAX, Counts, DataType, DataTypeError, Kind, Needs, PatternError, STANDARD_BYTES_MAX,
    Tier, TierError, WantedTier,
};
use crate::records::{self, KeyName, Parameter, ParameterVersion};
use crate::{Ssm, has_expired, remove, sealing};

const OPERATION: &str = "PutParameter";
/// How many versions of a parameter are kept.
pub const VERSIONS_MAX: u64 = 100;

/// A request that has been understood.
struct Put {
    scope: Scope,
    name: String,
    value: Secret,
    kind: Option<Kind>,
    tier: WantedTier,
    data_type: Option<(String, DataType)>,
    key: Option<String>,
    description: Option<String>,
    allowed_pattern: Option<String>,
    /// `None`: those that the parameter has.
    policies: Option<Vec<Policy>>,
    tags: BTreeMap<String, String>,
    overwrite: Overwrite,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Overwrite {
    Refuse,
    Allow,
}

impl Ssm {
    pub(super) async fn put_parameter(
        &self,
        context: &RequestContext,
        input: types::PutParameterRequest,
    ) -> Result<types::PutParameterResult, ApiError> {
        let put = understand(context, input)?;
        let parameter = self
            .store
            .transact(|transaction| self.put(transaction, context, put))
            .await
            .map_err(ApiError::from)?;
        // The sweeper looks at every parameter: it is not woken for one that does not expire.
        if !parameter.policies.is_empty() {
            self.expiring.notify_one();
        }
        Ok(types::PutParameterResult {
            tier: Some(api_tier(parameter.tier)),
            version: i64::try_from(parameter.version).ok(),
        })
    }

    fn put(
        &self,
        transaction: &mut Transaction<'_>,
        context: &RequestContext,
        put: Put,
    ) -> Result<Parameter, ApiError> {
        let key = (put.scope.clone(), put.name.clone());
        let mut current = transaction.get::<Parameter>(&key);
        if current.as_ref().is_some_and(|parameter| has_expired(parameter, context.now)) {
            remove(transaction, &put.scope, &put.name);
            current = None;
        }
        let newest = current.as_ref().and_then(|parameter| newest(transaction, parameter));
        if current.is_some() && put.overwrite == Overwrite::Refuse {
            return Err(errors::parameter_already_exists(
                "The parameter already exists. To overwrite this value, set the overwrite option in the request to \
                 true.",
            ));
        }
        let kind = kind_of(put.kind, current.as_deref())?;
        let key_name = key_of(put.key.as_deref(), kind, newest.as_deref(), &put.scope)?;
        let (data_type, data_type_rules) = match (put.data_type, newest.as_deref()) {
            (Some(given), _) => given,
            (None, Some(newest)) => {
                let rules = DataType::parse(&newest.data_type).unwrap_or(DataType::Text);
                (newest.data_type.clone(), rules)
            }
            (None, None) => ("text".to_owned(), DataType::Text),
        };
        let value = put.value.expose_text().unwrap_or_default();
        check_value(value, kind, &data_type, data_type_rules)?;
        let inherited = newest.as_ref().and_then(|newest| newest.allowed_pattern.clone());
        if let (None, Some(pattern)) = (&put.allowed_pattern, &inherited) {
            check_pattern(pattern, value)?;
        }
        let policies = put.policies.unwrap_or_else(|| {
            current.as_ref().map_or_else(Vec::new, |parameter| parameter.policies.clone())
        });
        let needs = Needs {
            value_bytes: value.len(),
            has_policies: !policies.is_empty(),
            data_type_is_advanced: data_type_rules.is_advanced(),
        };
        let current_tier = current.as_ref().map(|parameter| parameter.tier);
        // Counting is needed at the limits alone, which few come near.
        let counts = counts(transaction, &put.scope);
        let tier = value::tier(put.tier, current_tier, needs, counts).map_err(tier_refused)?;
        let number = current.as_ref().map_or(1, |parameter| parameter.version + 1);
        drop_oldest(transaction, &put.scope, &put.name, number)?;
        let mut version = ParameterVersion {
            scope: put.scope.clone(),
            name: put.name.clone(),
            version: number,
            kind,
            tier,
            data_type,
            value: wharf_vault::Sealed::default(),
            key: key_name,
            // What is not said stays as it is.
            description: put.description.or_else(|| newest.as_ref()?.description.clone()),
            allowed_pattern: put.allowed_pattern.or(inherited).filter(|pattern| !pattern.is_empty()),
            policies: policies.clone(),
            labels: Vec::new(),
            modified_at: context.now,
            modified_by: context.principal.arn(context.partition()),
        };
        version.value = self.seal(&version, value);
        let tags = current.map_or(put.tags, |parameter| parameter.tags.clone());
        transaction.put(version);
        let parameter =
            Parameter { scope: put.scope, name: put.name, kind, tier, version: number, policies, tags };
        transaction.put(parameter.clone());
        Ok(parameter)
    }
}

fn understand(context: &RequestContext, input: types::PutParameterRequest) -> Result<Put, ApiError> {
    let value = Secret::new(input.value);
    let text = value.expose_text().unwrap_or_default();
    let name = input.name.trim_matches(' ').to_owned();
    check_name(&context.scope, &name)?;
    if text.is_empty() {
        return Err(validation(
            "1 validation error detected: Value '' at 'value' failed to satisfy constraint: Member must have length \
             greater than or equal to 1.",
        ));
    }
    if value::refers_to_another(text) {
        return Err(validation(
            "Parameter value can't nest another parameter. Do not use \"{{}}\" in the value.",
        ));
    }
    let overwrite = if input.overwrite == Some(true) { Overwrite::Allow } else { Overwrite::Refuse };
    let tags = tag::from_api(input.tags.unwrap_or_default())?;
    if overwrite == Overwrite::Allow && !tags.is_empty() {
        return Err(validation(
            "Invalid request: tags and overwrite can't be used together. To create a parameter with tags, please \
             remove overwrite flag. To update tags for an existing parameter, please use AddTagsToResource or \
             RemoveTagsFromResource.",
        ));
    }
    let allowed_pattern = input.allowed_pattern;
    if let Some(pattern) = allowed_pattern.as_deref().filter(|pattern| !pattern.is_empty()) {
        check_pattern(pattern, text)?;
    }
    let data_type = match input.data_type.filter(|text| !text.is_empty()) {
        None => None,
        Some(text) => match DataType::parse(&text) {
            Ok(data_type) => Some((text, data_type)),
            Err(DataTypeError::NotImplemented) => {
                let what = format_args!("the data type \"{text}\" of ssm:{OPERATION}");
                return Err(ApiError::not_implemented(what));
            }
            Err(DataTypeError::Unknown) => {
                return Err(validation(format!(
                    "The following data type is not supported: {text} (Data type names are all lowercase.)"
                )));
            }
        },
    };
    Ok(Put {
        scope: context.scope.clone(),
        name,
        kind: input.r#type.map(|kind| match kind {
            types::ParameterType::StringList => Kind::StringList,
            types::ParameterType::SecureString => Kind::SecureString,
            // The model lets no other through.
            _ => Kind::String,
        }),
        tier: match input.tier {
            None => WantedTier::Unsaid,
            Some(types::ParameterTier::Advanced) => WantedTier::Advanced,
            Some(types::ParameterTier::IntelligentTiering) => WantedTier::Intelligent,
            Some(_) => WantedTier::Standard,
        },
        data_type,
        key: input.key_id,
        description: input.description,
        allowed_pattern,
        policies: input
            .policies
            .map(|text| policy::parse(&text, context.now))
            .transpose()
            .map_err(policy_refused)?,
        tags,
        overwrite,
        value,
    })
}

fn check_name(scope: &Scope, name: &str) -> Result<(), ApiError> {
    // The name without its first slash is the end of the ARN.
    let arn_chars = records::arn(scope, "").len();
    name::check(name, arn_chars).map_err(|error| match error {
        NameError::ReservedPath => ApiError::sender(
            "AccessDeniedException",
            format!("No access to reserved parameter name: {name}."),
        ),
        NameError::ReservedWord => {
            validation("Parameter name: can't be prefixed with \"aws\" or \"ssm\" (case-insensitive).")
        }
        NameError::Form => validation(NAME_RULES),
        NameError::NotQualified => validation("Parameter name must be a fully qualified name."),
        NameError::TooDeep => errors::hierarchy_level_limit_exceeded_exception(format!(
            "A hierarchy can have a maximum of {LEVELS_MAX} levels. For more information, see Requirements and \
             constraints for parameter names in the AWS Systems Manager User Guide."
        )),
        NameError::TooLong => validation(format!(
            "A parameter name, together with the part of its ARN that precedes it, has a maximum of \
             {QUALIFIED_CHARS_MAX} characters."
        )),
    })
}

fn check_pattern(pattern: &str, value: &str) -> Result<(), ApiError> {
    value::check_pattern(pattern, value).map_err(|error| match error {
        PatternError::Mismatch => errors::parameter_pattern_mismatch_exception(format!(
            "Parameter value, cannot be validated against allowedPattern: {pattern}"
        )),
        PatternError::Malformed => errors::invalid_allowed_pattern_exception(
            "The request does not meet the regular expression requirement.",
        ),
        PatternError::LooksAround => ApiError::not_implemented(format_args!(
            "look-around and back-references in the field \"AllowedPattern\" of ssm:{OPERATION}"
        )),
    })
}

fn kind_of(given: Option<Kind>, current: Option<&Parameter>) -> Result<Kind, ApiError> {
    match (given, current) {
        (None, None) => Err(validation("A parameter type is required when you create a parameter.")),
        (Some(kind), None) => Ok(kind),
        (None, Some(current)) => Ok(current.kind),
        (Some(kind), Some(current)) if kind == current.kind => Ok(kind),
        (Some(_), Some(_)) => Err(errors::hierarchy_type_mismatch_exception(
            "Parameter Store doesn't support changing a parameter type in a hierarchy. For example, you can't change \
             a parameter from a String type to a SecureString type. You must create a new, unique parameter.",
        )),
    }
}

/// A new version of a `SecureString` that names no key goes on with the key of the one before.
fn key_of(
    given: Option<&str>,
    kind: Kind,
    newest: Option<&ParameterVersion>,
    scope: &Scope,
) -> Result<Option<KeyName>, ApiError> {
    match (kind, given) {
        (Kind::SecureString, None) => match newest.and_then(|newest| newest.key.clone()) {
            Some(key) => Ok(Some(key)),
            None => sealing::key_name(None, scope).map(Some),
        },
        (Kind::SecureString, given) => sealing::key_name(given, scope).map(Some),
        (_, None) => Ok(None),
        (_, Some(_)) => Err(validation("KeyId is only supported for parameters of type SecureString.")),
    }
}

fn check_value(value: &str, kind: Kind, name: &str, data_type: DataType) -> Result<(), ApiError> {
    if data_type != DataType::Text && kind != Kind::String {
        return Err(refused(OPERATION, "DataType"));
    }
    if !data_type.accepts(value) {
        return Err(validation(format!("The parameter value is not valid for the data type {name}.")));
    }
    Ok(())
}

fn newest(transaction: &Transaction<'_>, parameter: &Parameter) -> Option<Arc<ParameterVersion>> {
    transaction.get::<ParameterVersion>(&(parameter.scope.clone(), parameter.name.clone(), parameter.version))
}

fn counts(transaction: &Transaction<'_>, scope: &Scope) -> Counts {
    use wharf_state::Key as _;
    if transaction.count::<Parameter>() < value::STANDARD_PARAMETERS_MAX {
        return Counts::default();
    }
    let mut counts = Counts::default();
    for parameter in transaction.prefix::<Parameter>(&scope.to_bytes()) {
        match parameter.tier {
            Tier::Standard => counts.standard += 1,
            Tier::Advanced => counts.advanced += 1,
        }
    }
    counts
}

/// Makes room for version `number`.
fn drop_oldest(
    transaction: &mut Transaction<'_>,
    scope: &Scope,
    name: &str,
    number: u64,
) -> Result<(), ApiError> {
    let Some(oldest) = number.checked_sub(VERSIONS_MAX).filter(|&oldest| oldest > 0) else { return Ok(()) };
    let key = (scope.clone(), name.to_owned(), oldest);
    let Some(version) = transaction.get::<ParameterVersion>(&key) else { return Ok(()) };
    if !version.labels.is_empty() {
        return Err(errors::parameter_max_version_limit_exceeded(format!(
            "You attempted to create a new version of {name} by calling the PutParameter API with the overwrite flag. \
             Version {oldest}, the oldest version, can't be deleted because it has a label associated with it. Move \
             the label to another version of the parameter, and try again."
        )));
    }
    transaction.delete::<ParameterVersion>(&key);
    Ok(())
}

fn tier_refused(error: TierError) -> ApiError {
    match error {
        TierError::Downgrade => validation(
            "This parameter uses the advanced-parameter tier. You can't downgrade a parameter from the \
             advanced-parameter tier to the standard-parameter tier. If necessary, you can delete the advanced \
             parameter and recreate it as a standard parameter.",
        ),
        TierError::StandardSize => validation(format!(
            "Standard tier parameters support a maximum parameter value of {STANDARD_BYTES_MAX} characters. To create \
             a larger parameter value, upgrade the parameter to use the advanced-parameter tier. For more \
             information, see https://docs.aws.amazon.com/systems-manager/latest/userguide/parameter-store-advanced-parameters.html",
        )),
        TierError::AdvancedSize => validation(format!(
            "Advanced tier parameters support a maximum parameter value of {ADVANCED_BYTES_MAX} characters.",
        )),
        TierError::StandardPolicies => validation(
            "Standard tier parameters don't support parameter policies. To use a policy, upgrade the parameter to use \
             the advanced-parameter tier.",
        ),
        TierError::StandardDataType => validation(
            "Standard tier parameters don't support this data type. To use it, upgrade the parameter to use the \
             advanced-parameter tier.",
        ),
        TierError::Limit => errors::parameter_limit_exceeded(
            "You have exceeded the number of parameters for this Amazon Web Services account. Delete one or more \
             parameters and try again.",
        ),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the form that `map_err` takes")]
fn policy_refused(error: PolicyError) -> ApiError {
    match error {
        PolicyError::Malformed => validation("The policies must be a JSON array of policies."),
        PolicyError::UnknownType => errors::invalid_policy_type_exception(
            "The policy type isn't supported. Parameter Store supports the following policy types: Expiration, \
             ExpirationNotification, and NoChangeNotification.",
        ),
        PolicyError::NotImplemented(policy) => {
            ApiError::not_implemented(format_args!("the policy type \"{policy}\" of ssm:{OPERATION}"))
        }
        PolicyError::Attribute(message) => errors::invalid_policy_attribute_exception(format!(
            "A policy attribute or its value is invalid: {message}."
        )),
        PolicyError::Twice => errors::incompatible_policy_exception(
            "There is a conflict in the policies specified for this parameter. You can't, for example, specify two \
             Expiration policies for a parameter. Review your policies, and try again.",
        ),
        PolicyError::TooMany => errors::policies_limit_exceeded_exception(
            "You specified more than the maximum number of allowed policies for the parameter. The maximum is 10.",
        ),
    }
}
