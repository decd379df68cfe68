//! ARNs of what IAM has, and paths.

use wharf_core::{AccountId, Partition};

use crate::records::PolicyName;

/// The path of what is made without one.
pub const ROOT_PATH: &str = "/";

/// `arn:aws:iam::123456789012:role/path/name`.
pub fn arn(partition: Partition, account: AccountId, kind: &str, path: &str, name: &str) -> String {
    format!("arn:{partition}:iam::{account}:{kind}{path}{name}")
}

pub fn policy_arn(partition: Partition, name: &PolicyName) -> String {
    format!("arn:{partition}:iam::{}", name.0)
}

/// The managed policy that an ARN names. `None` for anything else, and for another partition.
pub fn policy_of_arn(partition: Partition, arn: &str) -> Option<PolicyName> {
    let rest = arn.strip_prefix("arn:")?.strip_prefix(partition.as_str())?.strip_prefix(":iam::")?;
    let name = PolicyName(rest.to_owned());
    let (_, path_and_name) = name.parts()?;
    (path_and_name.len() > 1 && !path_and_name.ends_with('/')).then_some(name)
}

/// Whether a path lies under a prefix, as `PathPrefix` means it: by text.
pub fn under(path: &str, prefix: Option<&str>) -> bool {
    prefix.is_none_or(|prefix| path.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_named_by_arns_of_their_partition_alone() {
        let parse = |text| policy_of_arn(Partition::Aws, text).map(|name| name.0);
        assert_eq!(parse("arn:aws:iam::aws:policy/X").as_deref(), Some("aws:policy/X"));
        assert_eq!(
            parse("arn:aws:iam::123456789012:policy/a/b/X").as_deref(),
            Some("123456789012:policy/a/b/X")
        );
        for wrong in [
            "arn:aws-cn:iam::aws:policy/X",
            "arn:aws:iam::aws:role/X",
            "arn:aws:iam::aws:policy/",
            "arn:aws:iam::aws:policy/a/",
            "arn:aws:iam::12:policy/X",
            "arn:aws:iam::123456789012:policyX",
            "X",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
