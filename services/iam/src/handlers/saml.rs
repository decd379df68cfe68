//! SAML identity providers (API Reference: CreateSAMLProvider and its kin). They are kept and may be
//! named by trust policies; `sts:AssumeRoleWithSAML`, which would read their assertions, is not done.

use std::sync::Arc;
use std::time::Duration;

use quick_xml::events::{BytesStart, Event};
use quick_xml::name::ResolveResult;
use quick_xml::reader::NsReader;
use wharf_core::{ApiError, Partition, RequestContext, Timestamp};
use wharf_iam_api::{errors, types};
use wharf_state::Key as _;

use super::tag::{Change, paged};
use crate::find::Read;
use crate::records::SamlProvider;
use crate::{Iam, failures, ids, tags};

/// "SAML providers in an AWS account" of the IAM quotas.
const PROVIDERS_MAX: usize = 100;
/// How long metadata that tells no end is good: as AWS, a hundred years.
const VALIDITY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
/// How deep elements may nest.
const DEPTH_MAX: usize = 64;
/// OASIS, "Metadata for the SAML V2.0", 1.1.
const METADATA_NAMESPACE: &str = "urn:oasis:names:tc:SAML:2.0:metadata";
/// W3C, "XML Signature Syntax and Processing".
const SIGNATURE_NAMESPACE: &str = "http://www.w3.org/2000/09/xmldsig#";

pub(crate) fn arn(partition: Partition, provider: &SamlProvider) -> String {
    format!("arn:{partition}:iam::{}:saml-provider/{}", provider.account, provider.name)
}

/// The name in an ARN of this account.
pub(crate) fn name_of<'a>(context: &RequestContext, arn: &'a str) -> Option<&'a str> {
    let prefix = format!("arn:{}:iam::{}:saml-provider/", context.partition(), context.account());
    arn.strip_prefix(&*prefix).filter(|name| !name.is_empty())
}

fn find(read: &impl Read, context: &RequestContext, arn: &str) -> Result<Arc<SamlProvider>, ApiError> {
    name_of(context, arn)
        .and_then(|name| read.record::<SamlProvider>(&(context.account(), name.to_owned())))
        .ok_or_else(|| errors::no_such_entity_exception(format!("Manifest not found for arn {arn}")))
}

/// What a metadata document must be: one `EntityDescriptor` that describes an identity provider with a
/// certificate to verify its assertions by. Its `validUntil`, if it tells one.
///
/// # Errors
/// `InvalidInput`.
fn checked_metadata(document: &str) -> Result<Option<Timestamp>, ApiError> {
    let invalid = || errors::invalid_input_exception("Could not parse metadata");
    let mut reader = NsReader::from_str(document);
    let (mut depth, mut roots) = (0_usize, 0_usize);
    let (mut has_descriptor, mut has_certificate, mut in_certificate) = (false, false, false);
    let mut valid_until = None;
    loop {
        let (namespace, event) = reader.read_resolved_event().map_err(|_| invalid())?;
        let is_in = |wanted: &str| matches!(namespace, ResolveResult::Bound(name) if name.as_ref() == wanted);
        match event {
            Event::Start(ref element) | Event::Empty(ref element) => {
                let local = element.local_name();
                if depth == 0 {
                    roots += 1;
                    if local.as_ref() != "EntityDescriptor" || !is_in(METADATA_NAMESPACE) || roots > 1 {
                        return Err(invalid());
                    }
                    if attribute(element, "entityID").is_none_or(|id| id.is_empty()) {
                        return Err(invalid());
                    }
                    if let Some(text) = attribute(element, "validUntil") {
                        valid_until = Some(instant(&text).ok_or_else(invalid)?);
                    }
                }
                has_descriptor |= local.as_ref() == "IDPSSODescriptor" && is_in(METADATA_NAMESPACE);
                in_certificate = local.as_ref() == "X509Certificate" && is_in(SIGNATURE_NAMESPACE);
                if matches!(event, Event::Start(_)) {
                    depth += 1;
                    if depth > DEPTH_MAX {
                        return Err(invalid());
                    }
                }
            }
            Event::Text(text) if in_certificate => {
                has_certificate |= !text.trim().is_empty();
            }
            Event::End(_) => {
                in_certificate = false;
                depth = depth.checked_sub(1).ok_or_else(invalid)?;
            }
            // No document type: entities of its own are not a thing of metadata.
            Event::DocType(_) => return Err(invalid()),
            Event::Eof if depth == 0 && roots == 1 => break,
            Event::Eof => return Err(invalid()),
            _ => {}
        }
    }
    if !has_descriptor || !has_certificate {
        return Err(invalid());
    }
    Ok(valid_until)
}

fn attribute(element: &BytesStart<'_>, name: &str) -> Option<String> {
    Some(element.try_get_attribute(name).ok()??.value.into_owned())
}

/// `xs:dateTime`.
fn instant(text: &str) -> Option<Timestamp> {
    let parsed = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()?;
    Some(Timestamp::from_millis(i64::try_from(parsed.unix_timestamp_nanos() / 1_000_000).ok()?))
}

impl Iam {
    pub(super) async fn create_saml_provider(
        &self,
        context: &RequestContext,
        input: types::CreateSAMLProviderRequest,
    ) -> Result<types::CreateSAMLProviderResponse, ApiError> {
        if input.add_private_key.is_some() {
            return Err(failures::refused("CreateSAMLProvider", "AddPrivateKey"));
        }
        if input.assertion_encryption_mode.is_some() {
            return Err(failures::refused("CreateSAMLProvider", "AssertionEncryptionMode"));
        }
        let account = context.account();
        let tags = tags::of_new(input.tags)?;
        let valid_until = checked_metadata(&input.saml_metadata_document)?;
        let provider = SamlProvider {
            account,
            name: input.name,
            uuid: ids::uuid(&*self.rng),
            created_at: context.now,
            valid_until: valid_until.unwrap_or_else(|| context.now.plus(VALIDITY)),
            metadata: input.saml_metadata_document,
            tags,
        };
        let arn = arn(context.partition(), &provider);
        let described = tags::described(&provider.tags);
        self.change(|transaction| {
            if transaction.record::<SamlProvider>(&(account, provider.name.clone())).is_some() {
                return Err(errors::entity_already_exists_exception(format!(
                    "SAMLProvider {} already exists.",
                    provider.name
                )));
            }
            if transaction.prefix::<SamlProvider>(&account.to_bytes()).count() >= PROVIDERS_MAX {
                return Err(failures::quota("SAMLProvidersPerAccount", PROVIDERS_MAX));
            }
            transaction.put(provider);
            Ok(())
        })
        .await?;
        Ok(types::CreateSAMLProviderResponse { saml_provider_arn: Some(arn), tags: described })
    }

    pub(super) async fn get_saml_provider(
        &self,
        context: &RequestContext,
        input: types::GetSAMLProviderRequest,
    ) -> Result<types::GetSAMLProviderResponse, ApiError> {
        let provider = find(&self.store.snapshot(), context, &input.saml_provider_arn)?;
        Ok(types::GetSAMLProviderResponse {
            assertion_encryption_mode: None,
            create_date: Some(provider.created_at),
            private_key_list: None,
            saml_metadata_document: Some(provider.metadata.clone()),
            saml_provider_uuid: Some(provider.uuid.clone()),
            tags: Some(tags::listed(&provider.tags)),
            valid_until: Some(provider.valid_until),
        })
    }

    pub(super) async fn list_saml_providers(
        &self,
        context: &RequestContext,
        _input: types::ListSAMLProvidersRequest,
    ) -> Result<types::ListSAMLProvidersResponse, ApiError> {
        let snapshot = self.store.snapshot();
        let list = snapshot
            .prefix::<SamlProvider>(&context.account().to_bytes())
            .map(|provider| types::SAMLProviderListEntry {
                arn: Some(arn(context.partition(), &provider)),
                create_date: Some(provider.created_at),
                valid_until: Some(provider.valid_until),
            })
            .collect();
        Ok(types::ListSAMLProvidersResponse { saml_provider_list: Some(list) })
    }

    pub(super) async fn update_saml_provider(
        &self,
        context: &RequestContext,
        input: types::UpdateSAMLProviderRequest,
    ) -> Result<types::UpdateSAMLProviderResponse, ApiError> {
        for (field, is_given) in [
            ("AddPrivateKey", input.add_private_key.is_some()),
            ("RemovePrivateKey", input.remove_private_key.is_some()),
            ("AssertionEncryptionMode", input.assertion_encryption_mode.is_some()),
        ] {
            if is_given {
                return Err(failures::refused("UpdateSAMLProvider", field));
            }
        }
        let metadata = input
            .saml_metadata_document
            .map(|document| checked_metadata(&document).map(|valid_until| (document, valid_until)))
            .transpose()?;
        let now = context.now;
        self.change_saml_provider(context, &input.saml_provider_arn, |provider| {
            if let Some((document, valid_until)) = metadata {
                provider.metadata = document;
                provider.valid_until = valid_until.unwrap_or_else(|| now.plus(VALIDITY));
            }
            Ok(())
        })
        .await?;
        Ok(types::UpdateSAMLProviderResponse { saml_provider_arn: Some(input.saml_provider_arn) })
    }

    pub(super) async fn delete_saml_provider(
        &self,
        context: &RequestContext,
        input: types::DeleteSAMLProviderRequest,
    ) -> Result<(), ApiError> {
        self.change(|transaction| {
            let provider = find(transaction, context, &input.saml_provider_arn)?;
            transaction.delete::<SamlProvider>(&(provider.account, provider.name.clone()));
            Ok(())
        })
        .await
    }

    pub(super) async fn tag_saml_provider(
        &self,
        context: &RequestContext,
        input: types::TagSAMLProviderRequest,
    ) -> Result<(), ApiError> {
        let change = Change::Add(input.tags);
        self.change_saml_provider(context, &input.saml_provider_arn, |provider| {
            change.apply(&mut provider.tags)
        })
        .await
    }

    pub(super) async fn untag_saml_provider(
        &self,
        context: &RequestContext,
        input: types::UntagSAMLProviderRequest,
    ) -> Result<(), ApiError> {
        let change = Change::Remove(input.tag_keys);
        self.change_saml_provider(context, &input.saml_provider_arn, |provider| {
            change.apply(&mut provider.tags)
        })
        .await
    }

    pub(super) async fn list_saml_provider_tags(
        &self,
        context: &RequestContext,
        input: types::ListSAMLProviderTagsRequest,
    ) -> Result<types::ListSAMLProviderTagsResponse, ApiError> {
        let provider = find(&self.store.snapshot(), context, &input.saml_provider_arn)?;
        let page = paged(&provider.tags, input.marker.as_deref(), input.max_items)?;
        Ok(types::ListSAMLProviderTagsResponse {
            tags: page.items,
            marker: page.marker,
            is_truncated: page.is_truncated,
        })
    }

    async fn change_saml_provider(
        &self,
        context: &RequestContext,
        arn: &str,
        change: impl FnOnce(&mut SamlProvider) -> Result<(), ApiError> + Send,
    ) -> Result<(), ApiError> {
        self.change(|transaction| {
            let mut provider = SamlProvider::clone(&*find(transaction, context, arn)?);
            change(&mut provider)?;
            transaction.put(provider);
            Ok(())
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METADATA: &str = r#"<?xml version="1.0"?>
<md:EntityDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata" entityID="https://idp.example.com" validUntil="2030-01-01T00:00:00Z">
  <md:IDPSSODescriptor protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol">
    <md:KeyDescriptor use="signing"><ds:KeyInfo xmlns:ds="http://www.w3.org/2000/09/xmldsig#"><ds:X509Data>
      <ds:X509Certificate>MIIC</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>
  </md:IDPSSODescriptor>
</md:EntityDescriptor>"#;

    #[test]
    fn metadata_describes_an_identity_provider_with_a_certificate() {
        assert_eq!(checked_metadata(METADATA).unwrap().map(Timestamp::as_millis), Some(1_893_456_000_000));
        let forever = METADATA.replace(r#" validUntil="2030-01-01T00:00:00Z""#, "");
        assert_eq!(checked_metadata(&forever).unwrap(), None);
        for (from, to) in [
            ("SAML:2.0:metadata\"", "SAML:1.0:metadata\""),
            ("entityID", "entity"),
            ("md:IDPSSODescriptor", "md:SPSSODescriptor"),
            ("MIIC", " "),
            ("2030-01-01T00:00:00Z", "soon"),
            ("</md:EntityDescriptor>", ""),
            ("</md:EntityDescriptor>", "</md:EntityDescriptor><md:EntityDescriptor/>"),
            ("<?xml version=\"1.0\"?>", "<!DOCTYPE x [<!ENTITY a \"b\">]>"),
        ] {
            let changed = METADATA.replace(from, to);
            assert_ne!(changed, METADATA);
            assert_eq!(checked_metadata(&changed).unwrap_err().code, "InvalidInput", "{from} to {to}");
        }
        assert!(checked_metadata(&"<a>".repeat(100_000)).is_err());
    }
}
