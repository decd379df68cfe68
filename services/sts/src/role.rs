//! The role that a request names.

use wharf_contracts::RoleFacts;
use wharf_core::{AccountId, ApiError, Arn, Partition, Principal};

use crate::Sts;

/// `arn:PARTITION:iam::ACCOUNT:role/PATH/NAME`, whether or not there is such a role.
pub(crate) struct RoleArn<'a> {
    pub partition: Partition,
    pub account: AccountId,
    /// `/` or `/a/b/`.
    pub path: &'a str,
    pub name: &'a str,
}

impl<'a> RoleArn<'a> {
    /// # Errors
    /// AWS's `ValidationError` when the text is not the ARN of a role.
    pub(crate) fn parse(text: &'a str) -> Result<Self, ApiError> {
        let invalid = || ApiError::sender("ValidationError", format!("{text} is invalid"));
        let arn: Arn = text.parse().map_err(|_| invalid())?;
        let (Some(account), "iam", None) = (arn.account, arn.service.as_str(), &arn.region) else {
            return Err(invalid());
        };
        let resource = text.splitn(6, ':').nth(5).unwrap_or_default();
        let path_and_name = resource.strip_prefix("role").filter(|rest| rest.starts_with('/'));
        let (path, name) = path_and_name
            .and_then(|rest| rest.rfind('/').map(|slash| rest.split_at(slash + 1)))
            .filter(|(_, name)| !name.is_empty())
            .ok_or_else(invalid)?;
        Ok(Self { partition: arn.partition, account, path, name })
    }
}

impl Sts {
    /// The role with exactly this ARN.
    pub(crate) fn role(&self, arn: &RoleArn<'_>) -> Option<RoleFacts> {
        // Names are found without their case, ARNs are not the same without it.
        self.roles.role(arn.account, arn.name).filter(|role| role.path == arn.path && role.name == arn.name)
    }
}

/// The principal of a session of this role.
pub(crate) fn session_of(role: &RoleFacts, session_name: &str) -> Principal {
    Principal::AssumedRole {
        account: role.account,
        role_id: role.id.as_str().into(),
        role_path: role.path.as_str().into(),
        role_name: role.name.as_str().into(),
        session_name: session_name.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arn_of_a_role_has_an_account_a_path_and_a_name() {
        let arn = RoleArn::parse("arn:aws:iam::123456789012:role/a/b/deploy").unwrap();
        assert_eq!((arn.path, arn.name), ("/a/b/", "deploy"));
        let arn = RoleArn::parse("arn:aws:iam::123456789012:role/deploy").unwrap();
        assert_eq!((arn.path, arn.name), ("/", "deploy"));
        for text in [
            "arn:aws:iam::123456789012:user/deploy",
            "arn:aws:iam::123456789012:role",
            "arn:aws:iam::123456789012:role/",
            "arn:aws:iam::123456789012:roles/x",
            "arn:aws:iam::aws:role/deploy",
            "arn:aws:iam:us-east-1:123456789012:role/deploy",
            "arn:aws:sts::123456789012:role/deploy",
            "not an arn, but long enough",
        ] {
            assert_eq!(
                RoleArn::parse(text).err().map(|error| error.code).as_deref(),
                Some("ValidationError")
            );
        }
    }
}
