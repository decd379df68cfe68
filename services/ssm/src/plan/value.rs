//! What a parameter's value may be, and in which tier (Systems Manager User Guide, "Managing
//! parameter tiers" and "Working with parameter data types"). No error here holds the value.

use std::net::{Ipv4Addr, Ipv6Addr};

use regex::RegexBuilder;
use serde::{Deserialize, Serialize};

/// The largest values, in bytes.
pub const STANDARD_BYTES_MAX: usize = 4096;
pub const ADVANCED_BYTES_MAX: usize = 8192;
/// How many parameters of each tier an account may have in a region.
pub const STANDARD_PARAMETERS_MAX: usize = 10_000;
pub const ADVANCED_PARAMETERS_MAX: usize = 100_000;
/// The memory that a compiled `AllowedPattern` may take.
const PATTERN_BYTES_MAX: usize = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    String,
    StringList,
    SecureString,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tier {
    Standard,
    Advanced,
}

/// The tier that a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WantedTier {
    /// Not said: what the parameter has, or Standard, the default of an account.
    Unsaid,
    Standard,
    Advanced,
    Intelligent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TierError {
    #[error("an advanced parameter cannot become a standard one")]
    Downgrade,
    #[error("a standard parameter has at most {STANDARD_BYTES_MAX} bytes")]
    StandardSize,
    #[error("an advanced parameter has at most {ADVANCED_BYTES_MAX} bytes")]
    AdvancedSize,
    #[error("a standard parameter has no policies")]
    StandardPolicies,
    #[error("a standard parameter cannot have this data type")]
    StandardDataType,
    #[error("there are as many parameters of the tier as there may be")]
    Limit,
}

/// What a version would be, apart from its value.
#[derive(Clone, Copy, Debug)]
pub struct Needs {
    pub value_bytes: usize,
    pub has_policies: bool,
    pub data_type_is_advanced: bool,
}

/// How many parameters there are, without the one that is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub standard: usize,
    pub advanced: usize,
}

/// The tier that a parameter gets. `current` is the tier that it has.
///
/// # Errors
/// When no tier that was asked for can hold it.
pub fn tier(
    wanted: WantedTier,
    current: Option<Tier>,
    needs: Needs,
    counts: Counts,
) -> Result<Tier, TierError> {
    let needs_advanced =
        needs.value_bytes > STANDARD_BYTES_MAX || needs.has_policies || needs.data_type_is_advanced;
    let tier = match (wanted, current) {
        (WantedTier::Standard, Some(Tier::Advanced)) => return Err(TierError::Downgrade),
        (_, Some(Tier::Advanced)) | (WantedTier::Advanced, _) => Tier::Advanced,
        (WantedTier::Standard | WantedTier::Unsaid, _) => Tier::Standard,
        (WantedTier::Intelligent, _) if needs_advanced => Tier::Advanced,
        (WantedTier::Intelligent, None) if counts.standard >= STANDARD_PARAMETERS_MAX => Tier::Advanced,
        (WantedTier::Intelligent, _) => Tier::Standard,
    };
    match tier {
        Tier::Standard if needs.value_bytes > STANDARD_BYTES_MAX => Err(TierError::StandardSize),
        Tier::Standard if needs.has_policies => Err(TierError::StandardPolicies),
        Tier::Standard if needs.data_type_is_advanced => Err(TierError::StandardDataType),
        Tier::Advanced if needs.value_bytes > ADVANCED_BYTES_MAX => Err(TierError::AdvancedSize),
        Tier::Standard if current.is_none() && counts.standard >= STANDARD_PARAMETERS_MAX => {
            Err(TierError::Limit)
        }
        Tier::Advanced if current != Some(Tier::Advanced) && counts.advanced >= ADVANCED_PARAMETERS_MAX => {
            Err(TierError::Limit)
        }
        tier => Ok(tier),
    }
}

/// What AWS knows and what Wharf knows of a data type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataType {
    Text,
    Boolean,
    Integer,
    Float,
    Ipv4,
    Ipv6,
    AccountId,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DataTypeError {
    #[error("there is no such data type")]
    Unknown,
    /// AWS has it; whether a value is of it cannot be told here.
    #[error("the data type is not implemented")]
    NotImplemented,
}

impl DataType {
    /// # Errors
    /// When there is no such type, or its values cannot be checked here: `aws:ec2:image` asks
    /// whether an AMI exists, `aws:ssm:integration` belongs to Automation, and the exact grammar of
    /// the others is AWS's own.
    pub fn parse(text: &str) -> Result<Self, DataTypeError> {
        match text {
            "text" => Ok(Self::Text),
            "boolean" => Ok(Self::Boolean),
            "integer" => Ok(Self::Integer),
            "float" => Ok(Self::Float),
            "ipv4-address" => Ok(Self::Ipv4),
            "ipv6-address" => Ok(Self::Ipv6),
            "aws:account:id" => Ok(Self::AccountId),
            "json" => Ok(Self::Json),
            "aws:ec2:image"
            | "aws:ssm:integration"
            | "aws:region"
            | "binary"
            | "hostname"
            | "email"
            | "url"
            | "jsonc" => Err(DataTypeError::NotImplemented),
            _ => Err(DataTypeError::Unknown),
        }
    }

    /// Whether only advanced parameters have it.
    pub fn is_advanced(self) -> bool {
        self == Self::Json
    }

    pub fn accepts(self, value: &str) -> bool {
        match self {
            Self::Text => true,
            Self::Boolean => matches!(value, "true" | "false"),
            Self::Integer => value.parse::<i64>().is_ok(),
            Self::Float => value.parse::<f64>().is_ok_and(f64::is_finite),
            Self::Ipv4 => value.parse::<Ipv4Addr>().is_ok(),
            Self::Ipv6 => value.parse::<Ipv6Addr>().is_ok(),
            Self::AccountId => value.len() == 12 && value.bytes().all(|byte| byte.is_ascii_digit()),
            Self::Json => serde_json::from_str::<serde::de::IgnoredAny>(value).is_ok(),
        }
    }
}

/// Why an `AllowedPattern` does not let a value in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("the pattern is not a regular expression, or too large a one")]
    Malformed,
    #[error("the pattern looks around or back, which takes more than linear time")]
    LooksAround,
    #[error("the value does not match the pattern")]
    Mismatch,
}

/// The pattern must match the whole value.
///
/// # Errors
/// See [`PatternError`].
pub fn check_pattern(pattern: &str, value: &str) -> Result<(), PatternError> {
    let whole = format!(r"\A(?:{pattern})\z");
    let compiled =
        RegexBuilder::new(&whole).size_limit(PATTERN_BYTES_MAX).dfa_size_limit(PATTERN_BYTES_MAX).build();
    match compiled {
        Ok(compiled) if compiled.is_match(value) => Ok(()),
        Ok(_) => Err(PatternError::Mismatch),
        Err(regex::Error::Syntax(text))
            if text.contains("look-around") || text.contains("backreferences") =>
        {
            Err(PatternError::LooksAround)
        }
        Err(_) => Err(PatternError::Malformed),
    }
}

/// Whether a value would refer to another parameter, which no value may.
pub fn refers_to_another(value: &str) -> bool {
    value.find("{{").is_some_and(|start| value[start..].contains("}}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(value_bytes: usize) -> Needs {
        Needs { value_bytes, has_policies: false, data_type_is_advanced: false }
    }

    #[test]
    fn tiers_are_chosen_as_aws_chooses_them() {
        let none = Counts::default();
        let full = Counts { standard: STANDARD_PARAMETERS_MAX, advanced: 0 };
        use WantedTier::{Advanced, Intelligent, Standard, Unsaid};
        for (wanted, current, needs, counts, result) in [
            (Unsaid, None, needs(4096), none, Ok(Tier::Standard)),
            (Unsaid, None, needs(4097), none, Err(TierError::StandardSize)),
            (Unsaid, Some(Tier::Advanced), needs(8192), none, Ok(Tier::Advanced)),
            (Standard, Some(Tier::Advanced), needs(1), none, Err(TierError::Downgrade)),
            (Advanced, Some(Tier::Standard), needs(1), none, Ok(Tier::Advanced)),
            (Advanced, None, needs(8193), none, Err(TierError::AdvancedSize)),
            (Intelligent, None, needs(1), none, Ok(Tier::Standard)),
            (Intelligent, None, needs(4097), none, Ok(Tier::Advanced)),
            (Intelligent, Some(Tier::Advanced), needs(1), none, Ok(Tier::Advanced)),
            (Intelligent, None, needs(1), full, Ok(Tier::Advanced)),
            (Unsaid, None, needs(1), full, Err(TierError::Limit)),
            (Unsaid, Some(Tier::Standard), needs(1), full, Ok(Tier::Standard)),
            (Unsaid, None, Needs { has_policies: true, ..needs(1) }, none, Err(TierError::StandardPolicies)),
        ] {
            assert_eq!(tier(wanted, current, needs, counts), result, "{wanted:?} {current:?} {needs:?}");
        }
    }

    #[test]
    fn patterns_match_the_whole_value_in_linear_time() {
        assert_eq!(check_pattern(r"^\d+$", "123"), Ok(()));
        assert_eq!(check_pattern(r"\d+", "123x"), Err(PatternError::Mismatch));
        assert_eq!(check_pattern("a|b", "ab"), Err(PatternError::Mismatch));
        assert_eq!(check_pattern("(", "x"), Err(PatternError::Malformed));
        assert_eq!(check_pattern(r"(?!x)y", "y"), Err(PatternError::LooksAround));
        assert_eq!(check_pattern(r"(a)\1", "aa"), Err(PatternError::LooksAround));
        assert_eq!(check_pattern("(a{1000}){1000}", "a"), Err(PatternError::Malformed));
        assert_eq!(check_pattern("(a+)+b", &"a".repeat(8000)), Err(PatternError::Mismatch));
    }

    #[test]
    fn values_are_checked_against_their_type() {
        assert!(DataType::Integer.accepts("-443") && !DataType::Integer.accepts("4.5"));
        assert!(DataType::Float.accepts("4.5") && !DataType::Float.accepts("NaN"));
        assert!(DataType::Json.accepts("{\"a\":[1]}") && !DataType::Json.accepts("{"));
        assert!(DataType::Ipv4.accepts("10.0.0.1") && !DataType::Ipv4.accepts("10.0.0"));
        assert_eq!(DataType::parse("aws:ec2:image"), Err(DataTypeError::NotImplemented));
        assert_eq!(DataType::parse("Text"), Err(DataTypeError::Unknown));
    }

    #[test]
    fn a_value_cannot_name_another_parameter() {
        assert!(refers_to_another("x {{ssm:y}} z") && refers_to_another("{{}}"));
        assert!(!refers_to_another("}} {{") && !refers_to_another("{}"));
    }
}
