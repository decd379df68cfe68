//! GetParameter, GetParameters, GetParametersByPath, GetParameterHistory.

use std::ops::Bound;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use wharf_core::{ApiError, RequestContext, Scope, Timestamp};
use wharf_ssm_api::{errors, types};
use wharf_state::Snapshot;

use super::page::PageRequest;
use super::{Refusal, api_kind, api_policies, api_tier, given, kind_text, names_here, tier_text, validation};
use crate::plan::filter::{self, Filter, Listing, PATH_RULES, Subject};
use crate::plan::name::{Depth, Reference, Selector, is_hierarchy, lies_below};
use crate::plan::value::Kind;
use crate::public::{PublicFacts, PublicParameter};
use crate::records::{self, Parameter, ParameterVersion};
use crate::{Ssm, find, has_expired, not_found};

const BY_PATH_MAX: usize = 10;
const HISTORY_MAX: usize = 50;

/// Whether a caller wants a `SecureString` in clear.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Decryption {
    No,
    Yes,
}

impl From<Option<bool>> for Decryption {
    fn from(wanted: Option<bool>) -> Self {
        if wanted == Some(true) { Self::Yes } else { Self::No }
    }
}

/// What a reference points at.
pub enum Found {
    Own(Arc<ParameterVersion>),
    Public(PublicParameter),
}

pub enum Missing {
    Parameter,
    /// The parameter is there; this version or label of it is not.
    Version(String),
}

impl From<Missing> for ApiError {
    fn from(missing: Missing) -> Self {
        match missing {
            Missing::Parameter => not_found(),
            Missing::Version(message) => errors::parameter_version_not_found(message),
        }
    }
}

impl Ssm {
    pub(super) async fn get_parameter(
        &self,
        context: &RequestContext,
        input: types::GetParameterRequest,
    ) -> Result<types::GetParameterResult, ApiError> {
        let reference = names_here(&context.scope, &input.name)?;
        let found = self.resolve(&self.store.snapshot(), &context.scope, &reference, context.now)?;
        let parameter =
            self.shown(&context.scope, &found, reference.selector.as_ref(), input.with_decryption.into())?;
        Ok(types::GetParameterResult { parameter: Some(parameter) })
    }

    pub(super) async fn get_parameters(
        &self,
        context: &RequestContext,
        input: types::GetParametersRequest,
    ) -> Result<types::GetParametersResult, ApiError> {
        let snapshot = self.store.snapshot();
        let (mut parameters, mut invalid) = (Vec::new(), Vec::new());
        for text in input.names {
            let reference = names_here(&context.scope, &text)?;
            match self.resolve(&snapshot, &context.scope, &reference, context.now) {
                Ok(found) => parameters.push(self.shown(
                    &context.scope,
                    &found,
                    reference.selector.as_ref(),
                    input.with_decryption.into(),
                )?),
                Err(_) => invalid.push(text),
            }
        }
        parameters.sort_by(|a, b| (&a.name, a.version).cmp(&(&b.name, b.version)));
        Ok(types::GetParametersResult { parameters: Some(parameters), invalid_parameters: Some(invalid) })
    }

    pub(super) async fn get_parameters_by_path(
        &self,
        context: &RequestContext,
        input: types::GetParametersByPathRequest,
    ) -> Result<types::GetParametersByPathResult, ApiError> {
        let path = input.path.trim_matches(' ');
        if !is_hierarchy(path) {
            return Err(validation(PATH_RULES));
        }
        let filters =
            filter::parse(Listing::ByPath, given(input.parameter_filters)).map_err(Refusal::from)?;
        let depth = if input.recursive == Some(true) { Depth::Recursive } else { Depth::OneLevel };
        let page = PageRequest::new(
            "GetParametersByPath",
            input.next_token.as_deref(),
            input.max_results,
            BY_PATH_MAX,
        )?;
        let (found, next_token) = if PublicFacts::owns(path) {
            let public = self.public.below(path, depth).into_iter();
            // They are Strings; no other filter lets one through.
            let public =
                public.filter(|parameter| filters.iter().all(|filter| public_passes(filter, parameter)));
            let rest =
                public.filter(|parameter| page.after.as_ref().is_none_or(|after| parameter.name > *after));
            page.take(rest.map(Found::Public), name_of)
        } else {
            let snapshot = self.store.snapshot();
            let own = own_below(&snapshot, context, path, depth, page.after.as_deref());
            let own = own.filter_map(|parameter| by_path_version(&snapshot, &parameter, &filters));
            page.take(own.map(Found::Own), name_of)
        };
        let parameters: Result<Vec<_>, _> = found
            .iter()
            .map(|found| self.shown(&context.scope, found, None, input.with_decryption.into()))
            .collect();
        Ok(types::GetParametersByPathResult { parameters: Some(parameters?), next_token })
    }

    pub(super) async fn get_parameter_history(
        &self,
        context: &RequestContext,
        input: types::GetParameterHistoryRequest,
    ) -> Result<types::GetParameterHistoryResult, ApiError> {
        let reference = names_here(&context.scope, &input.name)?;
        if reference.selector.is_some() {
            return Err(validation(super::NAME_RULES));
        }
        let snapshot = self.store.snapshot();
        let parameter = reference
            .names
            .iter()
            .find_map(|name| find(&snapshot, &context.scope, name, context.now))
            .ok_or_else(not_found)?;
        let page = PageRequest::new(
            "GetParameterHistory",
            input.next_token.as_deref(),
            input.max_results,
            HISTORY_MAX,
        )?;
        let after: u64 = page.after.as_deref().and_then(|after| after.parse().ok()).unwrap_or(0);
        let prefix = Parameter::versions_prefix(&parameter.scope, &parameter.name);
        let versions = snapshot.prefix::<ParameterVersion>(&prefix).filter(|version| version.version > after);
        let (versions, next_token) = page.take(versions, |version| version.version.to_string());
        let decryption = input.with_decryption.into();
        let parameters: Result<Vec<_>, _> =
            versions.iter().map(|version| self.history(version, decryption)).collect();
        Ok(types::GetParameterHistoryResult { parameters: Some(parameters?), next_token })
    }

    /// The version that a reference points at.
    pub(crate) fn resolve(
        &self,
        snapshot: &Snapshot,
        scope: &Scope,
        reference: &Reference,
        now: Timestamp,
    ) -> Result<Found, Missing> {
        let public = reference.names.iter().find_map(|name| self.public.get(name));
        if let Some(public) = public {
            return match &reference.selector {
                None | Some(Selector::Version(1)) => Ok(Found::Public(public)),
                Some(selector) => Err(no_version(selector, &public.name)),
            };
        }
        let parameter = reference
            .names
            .iter()
            .find_map(|name| find(snapshot, scope, name, now))
            .ok_or(Missing::Parameter)?;
        let at =
            |version| snapshot.get::<ParameterVersion>(&(scope.clone(), parameter.name.clone(), version));
        let version = match &reference.selector {
            None => at(parameter.version),
            Some(Selector::Version(version)) => at(*version),
            Some(Selector::Label(label)) => {
                let prefix = Parameter::versions_prefix(scope, &parameter.name);
                snapshot.prefix::<ParameterVersion>(&prefix).find(|version| version.labels.contains(label))
            }
        };
        let missing = || match &reference.selector {
            None => Missing::Parameter,
            Some(selector) => no_version(selector, &parameter.name),
        };
        version.map(Found::Own).ok_or_else(missing)
    }

    fn shown(
        &self,
        scope: &Scope,
        found: &Found,
        selector: Option<&Selector>,
        decryption: Decryption,
    ) -> Result<types::Parameter, ApiError> {
        let selector = selector.map(ToString::to_string);
        Ok(match found {
            Found::Own(version) => types::Parameter {
                arn: Some(records::arn(&version.scope, &version.name)),
                data_type: Some(version.data_type.clone()),
                last_modified_date: Some(version.modified_at),
                name: Some(version.name.clone()),
                selector,
                r#type: Some(api_kind(version.kind)),
                value: Some(self.value(version, decryption)?),
                version: i64::try_from(version.version).ok(),
                ..Default::default()
            },
            Found::Public(public) => types::Parameter {
                arn: Some(public_arn(scope, &public.name)),
                data_type: Some("text".to_owned()),
                name: Some(public.name.clone()),
                selector,
                r#type: Some(types::ParameterType::String),
                value: Some(public.value.clone()),
                version: Some(1),
                ..Default::default()
            },
        })
    }

    /// The value as the caller sees it: a `SecureString` that is not decrypted is its sealed form.
    fn value(&self, version: &ParameterVersion, decryption: Decryption) -> Result<String, ApiError> {
        if version.kind == Kind::SecureString && decryption == Decryption::No {
            return Ok(BASE64_STANDARD.encode(version.value.as_bytes()));
        }
        let secret = self.unseal(version)?;
        Ok(secret.expose_text().unwrap_or_default().to_owned())
    }

    fn history(
        &self,
        version: &ParameterVersion,
        decryption: Decryption,
    ) -> Result<types::ParameterHistory, ApiError> {
        Ok(types::ParameterHistory {
            allowed_pattern: version.allowed_pattern.clone(),
            data_type: Some(version.data_type.clone()),
            description: version.description.clone(),
            key_id: version.key.as_ref().map(|key| key.given.clone()),
            labels: Some(version.labels.clone()),
            last_modified_date: Some(version.modified_at),
            last_modified_user: Some(version.modified_by.clone()),
            name: Some(version.name.clone()),
            policies: Some(api_policies(&version.policies)),
            tier: Some(api_tier(version.tier)),
            r#type: Some(api_kind(version.kind)),
            value: Some(self.value(version, decryption)?),
            version: i64::try_from(version.version).ok(),
        })
    }
}

fn no_version(selector: &Selector, name: &str) -> Missing {
    Missing::Version(match selector {
        Selector::Version(version) => format!(
            "Systems Manager could not find version {version} of {name}. Verify the version and try again."
        ),
        Selector::Label(label) => {
            format!("Systems Manager could not find label {label} of {name}. Verify the label and try again.")
        }
    })
}

/// AWS's own parameters belong to no account.
pub fn public_arn(scope: &Scope, name: &str) -> String {
    let partition = wharf_core::Partition::of_region(&scope.region);
    format!("arn:{partition}:ssm:{}::parameter{name}", scope.region)
}

fn name_of(found: &Found) -> String {
    match found {
        Found::Own(version) => version.name.clone(),
        Found::Public(public) => public.name.clone(),
    }
}

/// The caller's parameters below a path, behind `after`. Names are in order, so that only those that
/// begin with the path are looked at.
pub fn own_below<'a>(
    snapshot: &'a Snapshot,
    context: &'a RequestContext,
    path: &str,
    depth: Depth,
    after: Option<&str>,
) -> impl Iterator<Item = Arc<Parameter>> + 'a {
    let path = path.trim_end_matches('/').to_owned();
    // Names without a slash lie below the root too.
    let beginning = if path.is_empty() { String::new() } else { format!("{path}/") };
    let start = match after.filter(|after| *after >= beginning.as_str()) {
        Some(after) => Bound::Excluded((context.scope.clone(), after.to_owned())),
        None => Bound::Included((context.scope.clone(), beginning.clone())),
    };
    snapshot
        .range::<Parameter>((start, Bound::Unbounded))
        .take_while(move |parameter| {
            parameter.scope == context.scope && parameter.name.starts_with(&beginning)
        })
        .filter(move |parameter| lies_below(&parameter.name, &path, depth))
        .filter(|parameter| !has_expired(parameter, context.now))
}

/// The newest version when it passes the filters; for a label, the version that has it.
fn by_path_version(
    snapshot: &Snapshot,
    parameter: &Parameter,
    filters: &[Filter],
) -> Option<Arc<ParameterVersion>> {
    let passes = |version: &Arc<ParameterVersion>| {
        let subject = Subject {
            name: &version.name,
            kind: kind_text(version.kind),
            key_id: version.key.as_ref().map(|key| key.given.as_str()),
            tier: tier_text(version.tier),
            data_type: &version.data_type,
            tags: &parameter.tags,
            labels: &version.labels,
        };
        filters.iter().all(|filter| filter.matches(&subject))
    };
    if filters.iter().any(Filter::is_label) {
        let prefix = Parameter::versions_prefix(&parameter.scope, &parameter.name);
        return snapshot.prefix::<ParameterVersion>(&prefix).rev().find(passes);
    }
    let key = (parameter.scope.clone(), parameter.name.clone(), parameter.version);
    snapshot.get::<ParameterVersion>(&key).filter(passes)
}

fn public_passes(filter: &Filter, parameter: &PublicParameter) -> bool {
    filter.matches(&Subject {
        name: &parameter.name,
        kind: "String",
        key_id: None,
        tier: "Standard",
        data_type: "text",
        tags: &std::collections::BTreeMap::new(),
        labels: &[],
    })
}
