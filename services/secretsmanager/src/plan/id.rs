//! What a `SecretId` points at (Secrets Manager User Guide, "Finding a secret from a partial ARN").

use wharf_core::{AccountId, Arn, Region};

/// A name is never longer (API Reference: CreateSecret).
pub const NAME_CHARS_MAX: usize = 512;
/// The random characters behind a name in an ARN.
pub const SUFFIX_CHARS: usize = 6;

/// What a request points at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretId {
    Name(String),
    Arn {
        account: AccountId,
        region: Region,
        /// What stands behind `secret:`: a name, with or without its six random characters.
        rest: String,
    },
}

/// A name, and a suffix where it matters.
pub type Candidate<'a> = (&'a str, Option<&'a str>);

/// The text is neither a name nor an ARN of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the text is neither the name nor the ARN of a secret")]
pub struct SecretIdError;

impl SecretId {
    /// # Errors
    /// [`SecretIdError`] for a text that cannot point at a secret.
    pub fn parse(text: &str) -> Result<Self, SecretIdError> {
        if !text.starts_with("arn:") {
            return if is_name(text) { Ok(Self::Name(text.to_owned())) } else { Err(SecretIdError) };
        }
        let arn: Arn = text.parse().map_err(|_| SecretIdError)?;
        let rest = arn.resource.strip_prefix("secret:").ok_or(SecretIdError)?;
        match (arn.account, arn.region) {
            (Some(account), Some(region)) if arn.service == "secretsmanager" && is_name(rest) => {
                Ok(Self::Arn { account, region, rest: rest.to_owned() })
            }
            _ => Err(SecretIdError),
        }
    }

    /// The (name, suffix) pairs that this may stand for, the likeliest first; a pair without a suffix
    /// is any secret of that name. A partial ARN is taken only where `partial` allows it.
    pub fn candidates(&self, partial: Partial) -> Vec<Candidate<'_>> {
        match self {
            Self::Name(name) => vec![(name, None)],
            Self::Arn { rest, .. } => {
                let whole = split_suffix(rest).map(|(name, suffix)| (name, Some(suffix)));
                let part = (partial == Partial::Allowed).then_some((rest.as_str(), None));
                whole.into_iter().chain(part).collect()
            }
        }
    }
}

/// Whether an ARN may lack its random characters. A secret of another account may not be found so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partial {
    Allowed,
    Refused,
}

/// Whether a secret may have this name.
pub fn is_name(text: &str) -> bool {
    let plain = |byte: u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'/' | b'_' | b'+' | b'=' | b'.' | b'@' | b'!')
    };
    (1..=NAME_CHARS_MAX + 1 + SUFFIX_CHARS).contains(&text.len()) && text.bytes().all(plain)
}

fn split_suffix(rest: &str) -> Option<(&str, &str)> {
    let at = rest.len().checked_sub(SUFFIX_CHARS)?;
    // Names are ASCII, so any index is a boundary.
    let (name, suffix) = rest.split_at_checked(at)?;
    let name = name.strip_suffix('-').filter(|name| !name.is_empty())?;
    suffix.bytes().all(|byte| byte.is_ascii_alphanumeric()).then_some((name, suffix))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_arn_with_and_without_its_end_is_understood() {
        let arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/db-AbCd12";
        let id = SecretId::parse(arn).unwrap();
        assert_eq!(id.candidates(Partial::Refused), [("prod/db", Some("AbCd12"))]);
        assert_eq!(id.candidates(Partial::Allowed), [("prod/db", Some("AbCd12")), ("prod/db-AbCd12", None)]);
        let partial = SecretId::parse(&arn[..arn.len() - 7]).unwrap();
        assert_eq!(partial.candidates(Partial::Allowed), [("prod/db", None)]);
        assert_eq!(partial.candidates(Partial::Refused), []);
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in [
            "",
            "a b",
            "a:b",
            "é",
            "arn:aws:ssm:eu-west-1:123456789012:secret:x",
            "arn:aws:secretsmanager::123456789012:secret:x",
            "arn:aws:secretsmanager:eu-west-1:123456789012:secret:",
            "arn:aws:secretsmanager:eu-west-1:123456789012:secret:a:b",
            &"x".repeat(600),
        ] {
            assert_eq!(SecretId::parse(text), Err(SecretIdError), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_id_or_refused(text in "(arn:aws:secretsmanager:eu-west-1:123456789012:secret:)?\\PC{0,40}") {
            if let Ok(id) = SecretId::parse(&text) {
                for (name, suffix) in id.candidates(Partial::Allowed) {
                    prop_assert!(is_name(name));
                    prop_assert!(suffix.is_none_or(|suffix| suffix.len() == SUFFIX_CHARS));
                }
            }
        }

        #[test]
        fn every_name_is_found_by_its_arn(name in "[a-zA-Z0-9/_+=.@-]{1,40}", suffix in "[a-zA-Z0-9]{6}") {
            let arn = format!("arn:aws:secretsmanager:eu-west-1:123456789012:secret:{name}-{suffix}");
            let id = SecretId::parse(&arn).unwrap();
            prop_assert_eq!(id.candidates(Partial::Refused), vec![(name.as_str(), Some(suffix.as_str()))]);
        }
    }
}
