//! Whether an entry of a `Resource` element may be one, in the words in which IAM refuses it.

use crate::error::PolicyError;

const PARTITIONS: [&str; 8] =
    ["aws", "aws-cn", "aws-us-gov", "aws-iso", "aws-iso-b", "aws-iso-e", "aws-iso-f", "aws-eusc"];

/// What an ARN of IAM may name.
const IAM_PATHS: [&str; 13] = [
    "user/",
    "federated-user/",
    "role/",
    "group/",
    "instance-profile/",
    "mfa/",
    "server-certificate/",
    "policy/",
    "sms-mfa/",
    "saml-provider/",
    "oidc-provider/",
    "report/",
    "access-report/",
];

pub(crate) fn check(resource: &str) -> Result<(), PolicyError> {
    if resource == "*" {
        return Ok(());
    }
    let parts: Vec<&str> = resource.splitn(6, ':').collect();
    if parts.len() < 2 {
        return Err(PolicyError::ResourceForm(resource.to_owned()));
    }
    let partition = parts[1];
    if partition != "*" && !PARTITIONS.contains(&partition) {
        let part = |index: usize| parts.get(index).copied().unwrap_or("*");
        let service = if parts.len() <= 3 && part(2).is_empty() { "*" } else { part(2) };
        let resource = format!("arn:{partition}:{service}:{}:{}:{}", part(3), part(4), part(5));
        return Err(PolicyError::ResourcePartition { partition: partition.to_owned(), resource });
    }
    let Some(service) = parts.get(2) else { return Err(PolicyError::ResourceVendor) };
    if service.contains(['*', '?']) && resource != "arn:aws:*" {
        return Err(PolicyError::ResourceVendor);
    }
    let empty_part = resource.contains("::");
    if service.is_empty() || (parts.len() < 6 && empty_part) {
        return Err(PolicyError::LegacyParsing);
    }
    let region = parts.get(3).copied().unwrap_or_default();
    let path = parts.get(5).copied().unwrap_or_default();
    match *service {
        "iam" if !region.is_empty() => Err(PolicyError::IamRegion(resource.to_owned())),
        "iam" if path != "*" && !IAM_PATHS.iter().any(|start| path.starts_with(start)) => {
            // A wildcard may yet become one of these.
            let open = path
                .find(['*', '?', '$'])
                .is_some_and(|at| IAM_PATHS.iter().any(|start| start.starts_with(&path[..at])));
            if open { Ok(()) } else { Err(PolicyError::IamPath(IAM_PATHS.join(", "))) }
        }
        "s3" if !region.is_empty() && !path.starts_with("accesspoint/") => {
            Err(PolicyError::S3Region(resource.to_owned()))
        }
        _ => Ok(()),
    }
}
