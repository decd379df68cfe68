//! PutResourcePolicy, GetResourcePolicy, DeleteResourcePolicy, ListResourcePolicies,
//! ValidateResourcePolicy.

use wharf_core::{ApiError, RequestContext};
use wharf_policy::{Kind, Policy};
use wharf_secretsmanager_api::{errors, types};

use super::page::{Order, PageRequest};
use crate::authorization::check_after;
use crate::change::Change;
use crate::plan::policy::is_public;
use crate::records::Secret;
use crate::{SecretsManager, find, no_secret, parse_id, source, usable};

/// The only policy that a caller can attach.
const DEFAULT: &str = "default";
const PUBLIC: &str = "The BlockPublicPolicy parameter is set to true, and the resource policy did not prevent broad access to the \
     secret.";

impl SecretsManager {
    pub(super) async fn put_resource_policy(
        &self,
        context: &RequestContext,
        input: types::PutResourcePolicyRequest,
    ) -> Result<types::PutResourcePolicyResponse, ApiError> {
        default_alone(input.policy_name.as_deref())?;
        let document = input.resource_policy;
        check(&document).map_err(errors::malformed_policy_document_exception)?;
        if input.block_public_policy == Some(true) && is_public(&document) {
            return Err(errors::public_policy_exception(PUBLIC));
        }
        let secret = self.change_policy(context, &input.secret_id, Some(document)).await?;
        Ok(types::PutResourcePolicyResponse {
            arn: Some(secret.arn()),
            name: Some(secret.name),
            policy_name: input.policy_name,
        })
    }

    pub(super) async fn delete_resource_policy(
        &self,
        context: &RequestContext,
        input: types::DeleteResourcePolicyRequest,
    ) -> Result<types::DeleteResourcePolicyResponse, ApiError> {
        default_alone(input.policy_name.as_deref())?;
        let secret = self.change_policy(context, &input.secret_id, None).await?;
        Ok(types::DeleteResourcePolicyResponse {
            arn: Some(secret.arn()),
            name: Some(secret.name),
            policy_name: input.policy_name,
        })
    }

    pub(super) async fn get_resource_policy(
        &self,
        context: &RequestContext,
        input: types::GetResourcePolicyRequest,
    ) -> Result<types::GetResourcePolicyResponse, ApiError> {
        let id = parse_id(&input.secret_id)?;
        let secret = usable(find(&self.store.snapshot(), context, &id).ok_or_else(no_secret)?)?;
        if input.policy_name.as_deref().is_some_and(|name| name != DEFAULT) {
            return Err(errors::resource_not_found_exception(
                "Secrets Manager can't find the specified resource policy.",
            ));
        }
        Ok(types::GetResourcePolicyResponse {
            arn: Some(secret.arn()),
            name: Some(secret.name.clone()),
            policy_name: input.policy_name,
            resource_policy: secret.policy.as_deref().map(ToOwned::to_owned),
        })
    }

    pub(super) async fn list_resource_policies(
        &self,
        context: &RequestContext,
        input: types::ListResourcePoliciesRequest,
    ) -> Result<types::ListResourcePoliciesResponse, ApiError> {
        let id = parse_id(&input.secret_id)?;
        let page = PageRequest::new(
            "ListResourcePolicies".to_owned(),
            input.next_token.as_deref(),
            input.max_results,
            100,
        )?;
        let secret = usable(find(&self.store.snapshot(), context, &id).ok_or_else(no_secret)?)?;
        let policies = secret.policy.iter().map(|_| (DEFAULT.to_owned(), DEFAULT.to_owned())).collect();
        let (names, next_token) = page.take(policies, Order::Ascending);
        let resource_policies =
            names.into_iter().map(|name| types::ResourcePolicySummary { policy_name: Some(name) }).collect();
        Ok(types::ListResourcePoliciesResponse { next_token, resource_policies })
    }

    pub(super) async fn validate_resource_policy(
        &self,
        context: &RequestContext,
        input: types::ValidateResourcePolicyRequest,
    ) -> Result<types::ValidateResourcePolicyResponse, ApiError> {
        let secret = match &input.secret_id {
            None => None,
            Some(id) => {
                let found = find(&self.store.snapshot(), context, &parse_id(id)?).ok_or_else(no_secret)?;
                Some((id, usable(found)?))
            }
        };
        let failed = |name: &str, message: String| types::ValidationErrorsEntry {
            check_name: Some(name.to_owned()),
            error_message: Some(message),
        };
        let mut found = Vec::new();
        match check(&input.resource_policy) {
            Err(message) => found.push(failed("Syntax", message)),
            Ok(()) if is_public(&input.resource_policy) => found.push(failed(
                "PublicPolicy",
                "The resource policy grants broad access to the secret.".to_owned(),
            )),
            Ok(()) => {}
        }
        if let (true, Some((id, secret))) = (found.is_empty(), secret) {
            let after = Secret { policy: Some(input.resource_policy.into()), ..Secret::clone(&secret) };
            let check = check_after(&after, "secretsmanager:PutResourcePolicy", id);
            if let Err(error) = source::ask(&*self.authorizer, context, check, &[]) {
                found.push(failed("Lockout", error.message));
            }
        }
        Ok(types::ValidateResourcePolicyResponse {
            policy_validation_passed: Some(found.is_empty()),
            validation_errors: Some(found),
        })
    }

    async fn change_policy(
        &self,
        context: &RequestContext,
        id: &str,
        document: Option<String>,
    ) -> Result<Secret, ApiError> {
        let id = parse_id(id)?;
        self.store
            .transact(|transaction| {
                let mut change = Change::begin(transaction, context, &self.vault, &id)?;
                change.secret.policy = document.map(Into::into);
                change.finish()
            })
            .await
            .map_err(ApiError::from)
    }
}

fn default_alone(name: Option<&str>) -> Result<(), ApiError> {
    match name {
        None | Some(DEFAULT) => Ok(()),
        Some(_) => {
            Err(errors::invalid_parameter_exception("You can only change the policy that is named default."))
        }
    }
}

/// # Errors
/// What is wrong with the document, in AWS's words.
fn check(document: &str) -> Result<(), String> {
    match Policy::parse(Kind::Resource, document) {
        Ok(_) => Ok(()),
        Err(wharf_policy::PolicyError::Syntax) => {
            Err("This resource policy contains a syntax error.".to_owned())
        }
        Err(wharf_policy::PolicyError::InvalidPrincipal { .. }) => {
            Err("This resource policy contains an unsupported principal.".to_owned())
        }
        Err(error) => Err(error.to_string()),
    }
}
