//! Amazon Resource Names, parsed once and carried as a value.
//!
//! Format: `arn:partition:service:region:account-id:resource`
//! (IAM User Guide, "Identify AWS resources with Amazon Resource Names").

use std::fmt;
use std::str::FromStr;

use crate::id::{AccountId, Region};
use crate::limits::ARN_BYTES_MAX;

/// A group of regions that share one namespace of ARNs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Partition {
    Aws,
    AwsCn,
    AwsUsGov,
}

impl Partition {
    /// The partition that a region belongs to, told by the region's prefix as the SDKs do.
    pub fn of_region(region: &Region) -> Self {
        match region.as_str() {
            name if name.starts_with("cn-") => Self::AwsCn,
            name if name.starts_with("us-gov-") => Self::AwsUsGov,
            _ => Self::Aws,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::AwsCn => "aws-cn",
            Self::AwsUsGov => "aws-us-gov",
        }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Partition {
    type Err = ArnError;

    fn from_str(text: &str) -> Result<Self, ArnError> {
        match text {
            "aws" => Ok(Self::Aws),
            "aws-cn" => Ok(Self::AwsCn),
            "aws-us-gov" => Ok(Self::AwsUsGov),
            _ => Err(ArnError::Partition),
        }
    }
}

/// A parsed ARN. `region` and `account` are absent for global services (IAM has no region) and
/// for names that leave them out (S3).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Arn {
    pub partition: Partition,
    pub service: String,
    pub region: Option<Region>,
    pub account: Option<AccountId>,
    /// Everything behind the fifth colon, with its own separators: `task/default/0123…`.
    pub resource: String,
}

impl Arn {
    /// The ARN of a regional resource, in the partition of its region.
    pub fn regional(service: &str, region: &Region, account: AccountId, resource: impl Into<String>) -> Self {
        Self {
            partition: Partition::of_region(region),
            service: service.to_owned(),
            region: Some(region.clone()),
            account: Some(account),
            resource: resource.into(),
        }
    }
}

impl fmt::Display for Arn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "arn:{}:{}:", self.partition, self.service)?;
        if let Some(region) = &self.region {
            formatter.write_str(region.as_str())?;
        }
        formatter.write_str(":")?;
        if let Some(account) = self.account {
            write!(formatter, "{account}")?;
        }
        write!(formatter, ":{}", self.resource)
    }
}

/// Why a text is not an ARN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArnError {
    #[error("an ARN has at most {ARN_BYTES_MAX} bytes")]
    Length,
    #[error("an ARN has the form arn:partition:service:region:account-id:resource")]
    Form,
    #[error("the partition of an ARN is aws, aws-cn or aws-us-gov")]
    Partition,
    #[error("the region of an ARN is made of lower-case letters, digits and hyphens")]
    Region,
    #[error("the account id of an ARN has 12 digits")]
    Account,
}

impl FromStr for Arn {
    type Err = ArnError;

    fn from_str(text: &str) -> Result<Self, ArnError> {
        if text.len() > ARN_BYTES_MAX {
            return Err(ArnError::Length);
        }
        let mut parts = text.splitn(6, ':');
        let mut next = || parts.next().ok_or(ArnError::Form);
        if next()? != "arn" {
            return Err(ArnError::Form);
        }
        let partition = next()?.parse()?;
        let service = next()?;
        let region = match next()? {
            "" => None,
            region => Some(region.parse().map_err(|_| ArnError::Region)?),
        };
        let account = match next()? {
            "" => None,
            account => Some(account.parse().map_err(|_| ArnError::Account)?),
        };
        let resource = next()?;
        if service.is_empty() || resource.is_empty() {
            return Err(ArnError::Form);
        }
        Ok(Self { partition, service: service.to_owned(), region, account, resource: resource.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_arn_survives_parse_and_display() {
        let text = "arn:aws-cn:ecs:cn-north-1:123456789012:task/default/0123456789abcdef";
        let arn: Arn = text.parse().unwrap();
        assert_eq!(arn.partition, Partition::AwsCn);
        assert_eq!(arn.resource, "task/default/0123456789abcdef");
        assert_eq!(arn.to_string(), text);
    }

    #[test]
    fn a_resource_keeps_its_colons_and_global_services_have_no_region() {
        let text = "arn:aws:iam::123456789012:role/path/name:x";
        let arn: Arn = text.parse().unwrap();
        assert_eq!(arn.region, None);
        assert_eq!(arn.resource, "role/path/name:x");
        assert_eq!(arn.to_string(), text);
    }

    #[test]
    fn malformed_arns_say_what_is_wrong() {
        assert_eq!("arn:aws:ecs".parse::<Arn>(), Err(ArnError::Form));
        assert_eq!("arn:moon:ecs:us-east-1:123456789012:x".parse::<Arn>(), Err(ArnError::Partition));
        assert_eq!("arn:aws:ecs:us-east-1:12345:x".parse::<Arn>(), Err(ArnError::Account));
        assert_eq!("arn:aws:ecs:US:123456789012:x".parse::<Arn>(), Err(ArnError::Region));
        assert_eq!("arn:aws:ecs:us-east-1:123456789012:".parse::<Arn>(), Err(ArnError::Form));
    }
}
