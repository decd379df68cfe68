//! DeleteParameter, DeleteParameters.

use wharf_core::{ApiError, RequestContext};
use wharf_ssm_api::types;

use super::plain_name;
use crate::{Ssm, has_expired, not_found, remove};

impl Ssm {
    pub(super) async fn delete_parameter(
        &self,
        context: &RequestContext,
        input: types::DeleteParameterRequest,
    ) -> Result<types::DeleteParameterResult, ApiError> {
        let gone = self.delete(context, vec![plain_name(&input.name)?]).await?;
        if gone.is_empty() { Err(not_found()) } else { Ok(types::DeleteParameterResult {}) }
    }

    pub(super) async fn delete_parameters(
        &self,
        context: &RequestContext,
        input: types::DeleteParametersRequest,
    ) -> Result<types::DeleteParametersResult, ApiError> {
        let names = input.names.iter().map(|name| plain_name(name)).collect::<Result<Vec<_>, _>>()?;
        let deleted = self.delete(context, names.clone()).await?;
        let invalid = names.into_iter().filter(|name| !deleted.contains(name)).collect();
        Ok(types::DeleteParametersResult {
            deleted_parameters: Some(deleted),
            invalid_parameters: Some(invalid),
        })
    }

    /// Deletes in one step those that there are, and tells which.
    async fn delete(&self, context: &RequestContext, names: Vec<String>) -> Result<Vec<String>, ApiError> {
        self.store
            .transact(|transaction| {
                let mut deleted = Vec::new();
                for name in names {
                    // One that has expired was not there for the caller.
                    let parameter = remove(transaction, &context.scope, &name);
                    if parameter.is_some_and(|parameter| !has_expired(&parameter, context.now)) {
                        deleted.push(name);
                    }
                }
                Ok(deleted)
            })
            .await
            .map_err(ApiError::from)
    }
}
