//! Parameters for other services, on behalf of a principal.

use async_trait::async_trait;
use wharf_contracts::{AuthorizationRequest, Check, Decision, ParameterSource, RequestFacts};
use wharf_core::{ApiError, RequestContext};
use wharf_vault::Secret;

use crate::Ssm;
use crate::authorization::parameter_resource;
use crate::handlers::{Found, names_here};

/// What is asked for, as ECS does (Amazon ECS Developer Guide, "Task execution IAM role").
const ACTION: &str = "ssm:GetParameters";

#[async_trait]
impl ParameterSource for Ssm {
    async fn parameter(
        &self,
        context: &RequestContext,
        called_via: &str,
        name_or_arn: &str,
    ) -> Result<Secret, ApiError> {
        let reference = names_here(&context.scope, name_or_arn)?;
        let checks = [Check {
            action: ACTION.into(),
            resources: vec![parameter_resource(self, context, name_or_arn)],
            keys: Vec::new(),
        }];
        let facts = RequestFacts { called_via: &[called_via], ..RequestFacts::default() };
        let request = AuthorizationRequest { context, checks: &checks, facts: &facts };
        if let Decision::Deny(denial) = self.authorizer.decide(&request) {
            return Err(ApiError::sender("AccessDeniedException", denial.message));
        }
        match self.resolve(&self.store.snapshot(), &context.scope, &reference, context.now)? {
            Found::Own(version) => self.unseal(&version),
            Found::Public(public) => Ok(Secret::new(public.value)),
        }
    }
}
