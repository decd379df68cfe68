//! Which KMS key a caller names. There is no KMS service here yet: a key is a name under which data
//! keys are kept apart, and no key is missing, disabled or denied.

use wharf_core::{Arn, Partition, Scope};

const ALIAS_CHARS_MAX: usize = 256;

/// A KMS key or an alias, as a caller names it (KMS API Reference, "KeyId").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KmsKey {
    /// As it was given, and as it is shown again.
    pub given: String,
    /// The full ARN, whatever form was given: two keys are one when these are equal.
    pub arn: String,
}

/// The text names no key that this region could have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the text is not the id, ARN or alias of a KMS key of this region")]
pub struct KmsKeyError;

impl KmsKey {
    /// A key id (`1234abcd-…`, `mrk-…`), `alias/NAME`, or the ARN of either. An ARN may be another
    /// account's; it must be of the same region.
    ///
    /// # Errors
    /// [`KmsKeyError`] for anything else.
    pub fn parse(text: &str, scope: &Scope) -> Result<Self, KmsKeyError> {
        let arn = if text.starts_with("arn:") {
            let arn: Arn = text.parse().map_err(|_| KmsKeyError)?;
            let here = arn.service == "kms"
                && arn.partition == Partition::of_region(&scope.region)
                && arn.region.as_ref() == Some(&scope.region)
                && arn.account.is_some();
            let resource = arn.resource.as_str();
            let named = resource.strip_prefix("key/").is_some_and(is_key_id) || is_alias(resource);
            if !here || !named {
                return Err(KmsKeyError);
            }
            arn.to_string()
        } else if is_alias(text) {
            Arn::regional("kms", &scope.region, scope.account, text).to_string()
        } else if is_key_id(text) {
            Arn::regional("kms", &scope.region, scope.account, format!("key/{text}")).to_string()
        } else {
            return Err(KmsKeyError);
        };
        Ok(Self { given: text.to_owned(), arn })
    }
}

/// A UUID, or `mrk-` and 32 hexadecimal digits.
fn is_key_id(text: &str) -> bool {
    let hex =
        |text: &str, digits: usize| text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if let Some(digits) = text.strip_prefix("mrk-") {
        return hex(digits, 32);
    }
    let mut parts = text.split('-');
    [8, 4, 4, 4, 12].into_iter().all(|digits| parts.next().is_some_and(|part| hex(part, digits)))
        && parts.next().is_none()
}

fn is_alias(text: &str) -> bool {
    text.strip_prefix("alias/").is_some_and(|name| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'_' | b'-');
        !name.is_empty() && text.len() <= ALIAS_CHARS_MAX && name.bytes().all(plain)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope() -> Scope {
        Scope { account: "123456789012".parse().unwrap(), region: "eu-west-1".parse().unwrap() }
    }

    #[test]
    fn the_forms_of_one_key_are_one_key() {
        let id = "1234abcd-12ab-34cd-56ef-1234567890ab";
        let arn = format!("arn:aws:kms:eu-west-1:123456789012:key/{id}");
        assert_eq!(KmsKey::parse(id, &scope()).unwrap().arn, arn);
        assert_eq!(KmsKey::parse(&arn, &scope()).unwrap().arn, arn);
        let alias = KmsKey::parse("alias/aws/ssm", &scope()).unwrap();
        assert_eq!(alias.arn, "arn:aws:kms:eu-west-1:123456789012:alias/aws/ssm");
        assert_eq!(alias.given, "alias/aws/ssm");
    }

    #[test]
    fn what_names_no_key_of_the_region_is_refused() {
        for text in [
            "",
            "foo",
            "alias/",
            "alias/a b",
            "1234abcd-12ab-34cd-56ef-1234567890ag",
            "mrk-1",
            "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab",
            "arn:aws:s3:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab",
            "arn:aws:kms:eu-west-1:123456789012:key/x",
            "arn:aws-cn:kms:eu-west-1:123456789012:alias/x",
        ] {
            assert_eq!(KmsKey::parse(text, &scope()), Err(KmsKeyError), "{text}");
        }
    }
}
