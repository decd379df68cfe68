//! STS: who calls.
//!
//! `GetCallerIdentity` answers for every authenticated principal, as on AWS without any permission.
//! Everything that hands out credentials answers `NotImplemented`.
#![forbid(unsafe_code)]

mod authorization;

use std::sync::Arc;

use async_trait::async_trait;
use wharf_core::{ApiError, RequestContext};
use wharf_sts_api::{Sts as Api, types};

pub use authorization::authorization;

#[derive(Debug, Default)]
pub struct Sts;

impl Sts {
    pub fn new() -> Arc<Self> {
        Arc::new(Self)
    }
}

#[async_trait]
impl Api for Sts {
    async fn get_caller_identity(
        &self,
        context: &RequestContext,
        _input: types::GetCallerIdentityRequest,
    ) -> Result<types::GetCallerIdentityResponse, ApiError> {
        Ok(types::GetCallerIdentityResponse {
            user_id: Some(context.principal.user_id()),
            account: Some(context.principal.account().to_string()),
            arn: Some(context.principal.arn(context.partition())),
        })
    }
}
