//! Permissions boundaries (API Reference: Put/DeleteUserPermissionsBoundary,
//! Put/DeleteRolePermissionsBoundary).

use wharf_core::{ApiError, RequestContext};
use wharf_iam_api::types;

use crate::holder::Holder;
use crate::records::{Role, User};
use crate::{Iam, find};

impl Iam {
    pub(super) async fn put_user_permissions_boundary(
        &self,
        context: &RequestContext,
        input: types::PutUserPermissionsBoundaryRequest,
    ) -> Result<(), ApiError> {
        self.set_boundary::<User>(context, &input.user_name, Some(&input.permissions_boundary)).await
    }

    pub(super) async fn delete_user_permissions_boundary(
        &self,
        context: &RequestContext,
        input: types::DeleteUserPermissionsBoundaryRequest,
    ) -> Result<(), ApiError> {
        self.set_boundary::<User>(context, &input.user_name, None).await
    }

    pub(super) async fn put_role_permissions_boundary(
        &self,
        context: &RequestContext,
        input: types::PutRolePermissionsBoundaryRequest,
    ) -> Result<(), ApiError> {
        self.set_boundary::<Role>(context, &input.role_name, Some(&input.permissions_boundary)).await
    }

    pub(super) async fn delete_role_permissions_boundary(
        &self,
        context: &RequestContext,
        input: types::DeleteRolePermissionsBoundaryRequest,
    ) -> Result<(), ApiError> {
        self.set_boundary::<Role>(context, &input.role_name, None).await
    }

    async fn set_boundary<H: Holder>(
        &self,
        context: &RequestContext,
        name: &str,
        arn: Option<&str>,
    ) -> Result<(), ApiError> {
        self.change(|transaction| {
            let mut holder = H::clone(&*H::find_own(transaction, context.account(), name)?);
            holder.policies_mut().boundary = find::boundary(transaction, context, arn)?;
            transaction.put(holder);
            Ok(())
        })
        .await
    }
}
