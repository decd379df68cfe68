//! Server certificates (API Reference: UploadServerCertificate, GetServerCertificate,
//! ListServerCertificates, UpdateServerCertificate, DeleteServerCertificate and their tags).

use wharf_core::{ApiError, RequestContext};
use wharf_iam_api::{errors, types};

use super::tag::{Change, paged};
use crate::pages::page;
use crate::records::{ServerCertificate, folded};
use crate::{Iam, certificate, describe, failures, find, ids, names, tags};

/// "Server certificates stored in an AWS account" of the IAM quotas.
pub const CERTIFICATES_MAX: usize = 20;

impl Iam {
    pub(super) async fn upload_server_certificate(
        &self,
        context: &RequestContext,
        input: types::UploadServerCertificateRequest,
    ) -> Result<types::UploadServerCertificateResponse, ApiError> {
        let account = context.account();
        let tags = tags::of_new(input.tags)?;
        let checked = certificate::check(
            &input.certificate_body,
            &input.private_key,
            input.certificate_chain.as_deref(),
            context.now,
        )?;
        let id = ids::unique(ids::SERVER_CERTIFICATE, &*self.rng);
        let certificate = ServerCertificate {
            account,
            sealed_private_key: self.private_keys.seal(id.as_bytes(), input.private_key.as_bytes()),
            id,
            name: input.server_certificate_name,
            path: input.path.unwrap_or_else(|| names::ROOT_PATH.to_owned()),
            uploaded_at: context.now,
            expires_at: checked.expires_at,
            body: input.certificate_body,
            chain: input.certificate_chain,
            tags,
        };
        let described = describe::certificate(context.partition(), &certificate);
        let tags = tags::described(&certificate.tags);
        self.change(|transaction| {
            if find::named::<ServerCertificate>(transaction, account, &certificate.name).is_some() {
                return Err(exists(&certificate.name));
            }
            if find::all::<ServerCertificate, _>(transaction, account).count() >= CERTIFICATES_MAX {
                return Err(failures::quota("ServerCertificatesPerAccount", CERTIFICATES_MAX));
            }
            transaction.put(certificate);
            Ok(())
        })
        .await?;
        Ok(types::UploadServerCertificateResponse { server_certificate_metadata: Some(described), tags })
    }

    pub(super) async fn get_server_certificate(
        &self,
        context: &RequestContext,
        input: types::GetServerCertificateRequest,
    ) -> Result<types::GetServerCertificateResponse, ApiError> {
        let snapshot = self.store.snapshot();
        let found = find::server_certificate(&snapshot, context.account(), &input.server_certificate_name)?;
        Ok(types::GetServerCertificateResponse {
            server_certificate: types::ServerCertificate {
                certificate_body: found.body.clone(),
                certificate_chain: found.chain.clone(),
                server_certificate_metadata: describe::certificate(context.partition(), &found),
                tags: tags::described(&found.tags),
            },
        })
    }

    pub(super) async fn list_server_certificates(
        &self,
        context: &RequestContext,
        input: types::ListServerCertificatesRequest,
    ) -> Result<types::ListServerCertificatesResponse, ApiError> {
        let snapshot = self.store.snapshot();
        let all = find::all::<ServerCertificate, _>(&snapshot, context.account())
            .filter(|found| names::under(&found.path, input.path_prefix.as_deref()));
        let page = page(all, |found| folded(&found.name), input.marker.as_deref(), input.max_items)?
            .map(|found| describe::certificate(context.partition(), &found));
        Ok(types::ListServerCertificatesResponse {
            server_certificate_metadata_list: page.items,
            marker: page.marker,
            is_truncated: page.is_truncated,
        })
    }

    pub(super) async fn update_server_certificate(
        &self,
        context: &RequestContext,
        input: types::UpdateServerCertificateRequest,
    ) -> Result<(), ApiError> {
        let account = context.account();
        self.change(|transaction| {
            let found = find::server_certificate(transaction, account, &input.server_certificate_name)?;
            let mut found = ServerCertificate::clone(&found);
            if let Some(name) = input.new_server_certificate_name {
                let taken = find::named::<ServerCertificate>(transaction, account, &name);
                if taken.is_some_and(|other| other.id != found.id) {
                    return Err(exists(&name));
                }
                found.name = name;
            }
            if let Some(path) = input.new_path {
                found.path = path;
            }
            transaction.put(found);
            Ok(())
        })
        .await
    }

    pub(super) async fn delete_server_certificate(
        &self,
        context: &RequestContext,
        input: types::DeleteServerCertificateRequest,
    ) -> Result<(), ApiError> {
        let account = context.account();
        self.change(|transaction| {
            let found = find::server_certificate(transaction, account, &input.server_certificate_name)?;
            transaction.delete::<ServerCertificate>(&(account, found.id.clone()));
            Ok(())
        })
        .await
    }

    pub(super) async fn tag_server_certificate(
        &self,
        context: &RequestContext,
        input: types::TagServerCertificateRequest,
    ) -> Result<(), ApiError> {
        self.change_certificate_tags(context, &input.server_certificate_name, Change::Add(input.tags)).await
    }

    pub(super) async fn untag_server_certificate(
        &self,
        context: &RequestContext,
        input: types::UntagServerCertificateRequest,
    ) -> Result<(), ApiError> {
        self.change_certificate_tags(context, &input.server_certificate_name, Change::Remove(input.tag_keys))
            .await
    }

    async fn change_certificate_tags(
        &self,
        context: &RequestContext,
        name: &str,
        change: Change,
    ) -> Result<(), ApiError> {
        self.change(|transaction| {
            let found = find::server_certificate(transaction, context.account(), name)?;
            let mut found = ServerCertificate::clone(&found);
            change.apply(&mut found.tags)?;
            transaction.put(found);
            Ok(())
        })
        .await
    }

    pub(super) async fn list_server_certificate_tags(
        &self,
        context: &RequestContext,
        input: types::ListServerCertificateTagsRequest,
    ) -> Result<types::ListServerCertificateTagsResponse, ApiError> {
        let snapshot = self.store.snapshot();
        let found = find::server_certificate(&snapshot, context.account(), &input.server_certificate_name)?;
        let page = paged(&found.tags, input.marker.as_deref(), input.max_items)?;
        Ok(types::ListServerCertificateTagsResponse {
            tags: page.items,
            marker: page.marker,
            is_truncated: page.is_truncated,
        })
    }
}

fn exists(name: &str) -> ApiError {
    errors::entity_already_exists_exception(format!(
        "The Server Certificate with name {name} already exists."
    ))
}
