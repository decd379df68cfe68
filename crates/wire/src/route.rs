//! Which service a request is for, and which of its operations.
//!
//! The service is found from the credential scope of the signature, then `X-Amz-Target`, then the
//! host, then what the body says of its API version. The operation is found from `X-Amz-Target`
//! (JSON) or `Action` and `Version` (Query). Nothing here trusts what it reads: a service that is
//! found decides only whose rules the signature has to satisfy.

use std::borrow::Cow;

use http::HeaderMap;
use percent_encoding::percent_decode_str;
use wharf_core::ApiError;
use wharf_shape::{Protocol, ServiceModel};

use crate::echo;
use crate::sigv4::{Claim, SignedParts};

/// The protocol in which a request is refused when no service could be told: what its sender most
/// likely reads. The REST protocols, which no service here speaks yet, read the errors of AWS JSON
/// (REST JSON) or Query (REST XML).
pub(crate) fn likely_protocol(parts: &SignedParts<'_>, claim: Option<&Claim<'_>>) -> Protocol {
    const REST_XML: [&str; 4] = ["s3", "s3express", "route53", "cloudfront"];
    let content_type = header(parts.headers, "content-type").unwrap_or_default();
    let is_form = content_type.starts_with("application/x-www-form-urlencoded")
        || form_value(parts.query.as_bytes(), "Action").is_some();
    let is_rest_xml = claim.is_some_and(|claim| REST_XML.contains(&claim.scope().service));
    if !parts.headers.contains_key("x-amz-target") && (is_form || is_rest_xml) {
        Protocol::Query
    } else {
        Protocol::AwsJson1_1
    }
}

/// Finds the service among `models`.
///
/// # Errors
/// An error that names what was asked for, when Wharf has no such service.
pub(crate) fn find_service(
    models: &[&'static ServiceModel],
    parts: &SignedParts<'_>,
    claim: Option<&Claim<'_>>,
) -> Result<usize, ApiError> {
    // A target that is known decides even against the scope: verification then says, in AWS's words,
    // that the credential should be scoped to this service. It also tells apart services that share
    // a signing name.
    let prefix = target(parts.headers).map(|(prefix, _)| prefix).filter(|prefix| !prefix.is_empty());
    if let Some(index) = models.iter().position(|model| prefix == Some(model.target_prefix)) {
        return Ok(index);
    }
    if let Some(claim) = claim {
        let signing_name = claim.scope().service;
        return models
            .iter()
            .position(|model| model.signing_name == signing_name)
            .ok_or_else(|| unknown_service(models, signing_name));
    }
    if let Some(prefix) = prefix {
        return Err(unknown_service(models, prefix));
    }
    if let Some(host) = header(parts.headers, "host") {
        let label = host.split(['.', ':']).next().unwrap_or_default();
        if let Some(index) = models.iter().position(|model| model.endpoint_prefix == label) {
            return Ok(index);
        }
    }
    let version = action_value(parts, "Version");
    let by_version = |model: &&ServiceModel| {
        matches!(model.protocol, Protocol::Query | Protocol::Ec2Query)
            && version.as_deref() == Some(model.api_version)
    };
    models.iter().copied().position(|model| by_version(&model)).ok_or_else(|| {
        ApiError::sender(
            "MissingAuthenticationToken",
            "The request is not signed, and neither X-Amz-Target nor its host name a service.",
        )
        .with_status(403)
    })
}

fn unknown_service(models: &[&'static ServiceModel], name: &str) -> ApiError {
    let known: Vec<&str> = models.iter().map(|model| model.name).collect();
    let name = bounded(name);
    ApiError::sender(
        "UnknownService",
        format!("Wharf has no service {name:?}. It has: {}.", known.join(", ")),
    )
}

/// The longest name that an error repeats back to the caller.
const NAME_BYTES_MAX: usize = 128;

/// Finds the operation of `model` that the request names.
///
/// # Errors
/// `UnknownOperationException` (JSON), `InvalidAction` (Query), `NotImplemented` (EC2).
pub(crate) fn find_operation(model: &ServiceModel, parts: &SignedParts<'_>) -> Result<usize, ApiError> {
    match model.protocol {
        Protocol::AwsJson1_0 | Protocol::AwsJson1_1 => json_operation(model, parts),
        Protocol::Query => query_operation(model, parts),
        Protocol::Ec2Query => ec2_operation(model, parts),
    }
}

fn json_operation(model: &ServiceModel, parts: &SignedParts<'_>) -> Result<usize, ApiError> {
    let unknown = |message: String| Err(ApiError::sender("UnknownOperationException", message));
    if parts.method != "POST" {
        return unknown(format!("An operation of {} is called with POST.", model.name));
    }
    let Some((prefix, name)) = target(parts.headers) else {
        return unknown("The header X-Amz-Target names no operation.".to_owned());
    };
    match model.operation(name) {
        Some(index) if prefix == model.target_prefix => Ok(index),
        _ => {
            let target = header(parts.headers, "x-amz-target").unwrap_or_default();
            unknown(format!("{} is not an operation of {}.", bounded(target), model.name))
        }
    }
}

fn query_operation(model: &ServiceModel, parts: &SignedParts<'_>) -> Result<usize, ApiError> {
    let Some(action) = action_value(parts, "Action") else {
        return Err(ApiError::sender("MissingAction", "The request is missing an action."));
    };
    let version = action_value(parts, "Version");
    match model.operation(&action) {
        Some(index) if version.as_deref() == Some(model.api_version) => Ok(index),
        _ => Err(ApiError::sender(
            "InvalidAction",
            format!(
                "Could not find operation {} for version {}",
                bounded(&action),
                version.as_deref().map_or("NO_VERSION_SPECIFIED", bounded)
            ),
        )),
    }
}

fn ec2_operation(model: &ServiceModel, parts: &SignedParts<'_>) -> Result<usize, ApiError> {
    let Some(action) = action_value(parts, "Action") else {
        return Err(ApiError::sender("MissingAction", "The request must contain the parameter Action"));
    };
    match action_value(parts, "Version").as_deref() {
        Some(version) if version == model.api_version => {}
        Some(version) => {
            return Err(ApiError::sender(
                "NoSuchVersion",
                format!("The requested version ({}) of service AmazonEC2 does not exist", bounded(version)),
            ));
        }
        None => {
            return Err(ApiError::sender(
                "MissingParameter",
                "The request must contain the parameter Version",
            ));
        }
    }
    model.operation(&action).ok_or_else(|| {
        // The model holds an allow-list: a name that is not in it may well be one of AWS's.
        let is_name =
            action.len() <= NAME_BYTES_MAX && action.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if is_name && action.starts_with(|first: char| first.is_ascii_uppercase()) {
            return ApiError::not_implemented(format_args!("{}:{action}", model.name));
        }
        ApiError::sender(
            "InvalidAction",
            format!("The action {} is not valid for this web service.", bounded(&action)),
        )
    })
}

fn bounded(text: &str) -> &str {
    echo::bounded(text, NAME_BYTES_MAX)
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Prefix and operation of `X-Amz-Target: AmazonEC2ContainerServiceV20141113.RunTask`.
fn target(headers: &HeaderMap) -> Option<(&str, &str)> {
    header(headers, "x-amz-target")?.rsplit_once('.')
}

/// A parameter of a Query request: of the body's form, or else of the query string, as the Query
/// codec looks.
fn action_value<'a>(parts: &SignedParts<'a>, name: &str) -> Option<Cow<'a, str>> {
    form_value(parts.body, name).or_else(|| form_value(parts.query.as_bytes(), name))
}

/// The first value of a name in an URL-encoded form, decoded.
fn form_value<'a>(form: &'a [u8], name: &str) -> Option<Cow<'a, str>> {
    for pair in form.split(|byte| *byte == b'&') {
        let Some(rest) = pair.strip_prefix(name.as_bytes()) else { continue };
        let value = match rest.first() {
            None => return Some(Cow::Borrowed("")),
            Some(b'=') => std::str::from_utf8(&rest[1..]).ok()?,
            Some(_) => continue,
        };
        return percent_decode_str(value).decode_utf8().ok();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_value_is_found_whole_and_decoded() {
        let form = b"ActionX=no&Action=Get%43aller&Version=2011&Action=second";
        assert_eq!(form_value(form, "Action").as_deref(), Some("GetCaller"));
        assert_eq!(form_value(form, "Version").as_deref(), Some("2011"));
        assert_eq!(form_value(form, "Missing"), None);
        assert_eq!(form_value(b"Action", "Action").as_deref(), Some(""));
        assert_eq!(form_value(b"Action=%ff", "Action"), None);
        assert_eq!(form_value(b"Action=\xff", "Action"), None);
    }
}
