//! IAM's errors in IAM's words.

use wharf_core::ApiError;
use wharf_iam_api::errors;

pub fn no_user(name: &str) -> ApiError {
    errors::no_such_entity_exception(format!("The user with name {name} cannot be found."))
}

pub fn no_group(name: &str) -> ApiError {
    errors::no_such_entity_exception(format!("The group with name {name} cannot be found."))
}

pub fn no_role(name: &str) -> ApiError {
    errors::no_such_entity_exception(format!("The role with name {name} cannot be found."))
}

pub fn no_instance_profile(name: &str) -> ApiError {
    errors::no_such_entity_exception(format!("Instance Profile {name} cannot be found."))
}

pub fn no_policy(arn: &str) -> ApiError {
    errors::no_such_entity_exception(format!("Policy {arn} was not found."))
}

pub fn not_attachable(arn: &str) -> ApiError {
    errors::no_such_entity_exception(format!("Policy {arn} does not exist or is not attachable."))
}

pub fn no_boundary(arn: &str) -> ApiError {
    errors::no_such_entity_exception(format!("Scope ARN: {arn} does not exist or is not attachable."))
}

pub fn bad_policy_arn(arn: &str) -> ApiError {
    errors::invalid_input_exception(format!("ARN {arn} is not valid."))
}

pub fn no_policy_version(arn: &str, version: &str) -> ApiError {
    errors::no_such_entity_exception(format!(
        "Policy {arn} version {version} does not exist or is not attachable."
    ))
}

pub fn no_access_key(id: &str) -> ApiError {
    errors::no_such_entity_exception(format!("The Access Key with id {id} cannot be found."))
}

pub fn no_server_certificate(name: &str) -> ApiError {
    errors::no_such_entity_exception(format!("The Server Certificate with name {name} cannot be found."))
}

/// `Cannot exceed quota for UsersPerAccount: 5000`.
pub fn quota(name: &str, max: usize) -> ApiError {
    errors::limit_exceeded_exception(format!("Cannot exceed quota for {name}: {max}"))
}

/// `Cannot delete entity, must detach all policies first.`
pub fn in_the_way(what: &str) -> ApiError {
    errors::delete_conflict_exception(format!("Cannot delete entity, must {what} first."))
}

pub fn protected_role(name: &str) -> ApiError {
    errors::unmodifiable_entity_exception(format!(
        "Cannot perform the operation on the protected role '{name}' - this role is only modifiable by AWS"
    ))
}

/// A constraint that the model does not know.
pub fn validation(message: impl Into<String>) -> ApiError {
    ApiError::sender("ValidationError", message)
}

/// The error for a field that is understood and not done.
pub fn refused(operation: &str, field: &str) -> ApiError {
    ApiError::not_implemented(format_args!("the field \"{field}\" of iam:{operation}"))
}
