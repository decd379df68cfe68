//! The `Condition` element: operators over condition keys.
//!
//! IAM User Guide, "IAM JSON policy elements: Condition operators" and "Set operators for multivalued
//! context keys". All conditions of a statement must hold; of the values under one key, one is enough,
//! and for the operators with `Not`, none may match.

use crate::context::{Context, Values};
use crate::operand::{self, Network};
use crate::pattern::{Pattern, Variables, Wildcards};

#[derive(Clone, Debug)]
pub(crate) struct Condition {
    operator: Operator,
    quantifier: Quantifier,
    absent: Absent,
    /// As it is written.
    pub key: String,
    lower_key: String,
}

/// Which of the values of a multivalued key must match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quantifier {
    /// No prefix: for single-valued keys.
    One,
    ForAllValues,
    ForAnyValue,
}

/// What becomes of a condition whose key the request does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Absent {
    ByOperator,
    /// `IfExists`
    Holds,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sense {
    Is,
    IsNot,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Debug)]
enum Operator {
    /// String and ARN operators, with or without wildcards.
    Text(Sense, Vec<Pattern>),
    TextIgnoringCase(Sense, Vec<Pattern>),
    Number(Sense, Order, Vec<f64>),
    Date(Sense, Order, Vec<i64>),
    Bool(Vec<bool>),
    Binary(Vec<Vec<u8>>),
    Address(Sense, Vec<Network>),
    /// `true`: the key must be absent.
    Null(Vec<bool>),
}

/// What is wrong with a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConditionError {
    NoOperator,
    /// A value that the operator cannot compare with.
    Value,
}

impl Condition {
    /// `operator` as it is written: `ForAnyValue:StringLikeIfExists`.
    pub fn compile(
        operator: &str,
        key: &str,
        values: &[String],
        variables: Variables,
    ) -> Result<Self, ConditionError> {
        let (quantifier, name) = match operator.split_once(':') {
            None => (Quantifier::One, operator),
            Some(("ForAllValues", name)) => (Quantifier::ForAllValues, name),
            Some(("ForAnyValue", name)) => (Quantifier::ForAnyValue, name),
            Some(_) => return Err(ConditionError::NoOperator),
        };
        let (absent, name) = match name.strip_suffix("IfExists") {
            Some(name) if name != "Null" => (Absent::Holds, name),
            _ => (Absent::ByOperator, name),
        };
        Ok(Self {
            operator: compile(name, values, variables)?,
            quantifier,
            absent,
            key: key.to_owned(),
            lower_key: key.to_ascii_lowercase(),
        })
    }

    pub fn holds(&self, context: &dyn Context) -> bool {
        let found = context.get(&self.lower_key);
        if let Operator::Null(wanted) = &self.operator {
            let absent =
                found.is_none_or(|values| matches!(values, Values::Many(values) if values.is_empty()));
            return wanted.contains(&absent);
        }
        let Some(found) = found else {
            return self.absent == Absent::Holds
                || match self.quantifier {
                    Quantifier::One => self.operator.is_negated(),
                    Quantifier::ForAllValues => true,
                    Quantifier::ForAnyValue => false,
                };
        };
        let holds = |value: &str| self.operator.holds(value, context);
        match (found, self.quantifier) {
            (Values::One(value), _) => holds(&value),
            (Values::Many(values), Quantifier::ForAllValues) => values.iter().all(|value| holds(value)),
            (Values::Many(values), Quantifier::ForAnyValue) => values.iter().any(|value| holds(value)),
            // A set operator is missing: "not" means that none matches, as for a single value.
            (Values::Many(values), Quantifier::One) if self.operator.is_negated() => {
                values.iter().all(|value| holds(value))
            }
            (Values::Many(values), Quantifier::One) => values.iter().any(|value| holds(value)),
        }
    }

    /// The keys of the variables among its values, as written.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        let patterns: &[Pattern] = match &self.operator {
            Operator::Text(_, patterns) | Operator::TextIgnoringCase(_, patterns) => patterns,
            _ => &[],
        };
        patterns.iter().flat_map(Pattern::variables)
    }
}

impl Operator {
    fn is_negated(&self) -> bool {
        matches!(
            self,
            Self::Text(Sense::IsNot, _)
                | Self::TextIgnoringCase(Sense::IsNot, _)
                | Self::Number(Sense::IsNot, ..)
                | Self::Date(Sense::IsNot, ..)
                | Self::Address(Sense::IsNot, _)
        )
    }

    fn holds(&self, value: &str, context: &dyn Context) -> bool {
        let (sense, matches) = match self {
            Self::Text(sense, patterns) => {
                (*sense, patterns.iter().any(|pattern| pattern.matches(value, context)))
            }
            Self::TextIgnoringCase(sense, patterns) => {
                (*sense, patterns.iter().any(|pattern| pattern.equals_ignoring_case(value, context)))
            }
            Self::Number(sense, order, numbers) => {
                let value = operand::number(value);
                (*sense, value.is_some_and(|value| numbers.iter().any(|of| order.holds(&value, of))))
            }
            Self::Date(sense, order, dates) => {
                let value = operand::date(value);
                (*sense, value.is_some_and(|value| dates.iter().any(|of| order.holds(&value, of))))
            }
            Self::Bool(wanted) => {
                (Sense::Is, operand::boolean(value).is_some_and(|value| wanted.contains(&value)))
            }
            Self::Binary(wanted) => {
                (Sense::Is, operand::bytes(value).is_some_and(|value| wanted.contains(&value)))
            }
            Self::Address(sense, networks) => {
                let address = operand::address(value);
                let inside = |address| networks.iter().any(|network| network.contains(address));
                (*sense, address.is_some_and(inside))
            }
            Self::Null(_) => (Sense::Is, false),
        };
        matches == (sense == Sense::Is)
    }
}

impl Order {
    fn holds<T: PartialOrd>(self, value: &T, limit: &T) -> bool {
        match self {
            Self::Equal => value == limit,
            Self::Less => value < limit,
            Self::LessOrEqual => value <= limit,
            Self::Greater => value > limit,
            Self::GreaterOrEqual => value >= limit,
        }
    }
}

fn compile(name: &str, values: &[String], variables: Variables) -> Result<Operator, ConditionError> {
    let patterns = |wildcards| -> Vec<Pattern> {
        values.iter().map(|value| Pattern::compile(value, wildcards, variables)).collect()
    };
    Ok(match name {
        "StringEquals" => Operator::Text(Sense::Is, patterns(Wildcards::Literal)),
        "StringNotEquals" => Operator::Text(Sense::IsNot, patterns(Wildcards::Literal)),
        "StringEqualsIgnoreCase" => Operator::TextIgnoringCase(Sense::Is, patterns(Wildcards::Literal)),
        "StringNotEqualsIgnoreCase" => Operator::TextIgnoringCase(Sense::IsNot, patterns(Wildcards::Literal)),
        "StringLike" => Operator::Text(Sense::Is, patterns(Wildcards::Free)),
        "StringNotLike" => Operator::Text(Sense::IsNot, patterns(Wildcards::Free)),
        "ArnEquals" | "ArnLike" => Operator::Text(Sense::Is, patterns(Wildcards::Arn)),
        "ArnNotEquals" | "ArnNotLike" => Operator::Text(Sense::IsNot, patterns(Wildcards::Arn)),
        "Bool" => Operator::Bool(all(values, operand::boolean)?),
        "BinaryEquals" => Operator::Binary(all(values, operand::bytes)?),
        "IpAddress" => Operator::Address(Sense::Is, all(values, Network::parse)?),
        "NotIpAddress" => Operator::Address(Sense::IsNot, all(values, Network::parse)?),
        "Null" => Operator::Null(all(values, operand::boolean)?),
        _ => {
            if let Some(order) = name.strip_prefix("Numeric") {
                let (sense, order) = order_of(order)?;
                Operator::Number(sense, order, all(values, operand::number)?)
            } else if let Some(order) = name.strip_prefix("Date") {
                let (sense, order) = order_of(order)?;
                Operator::Date(sense, order, all(values, operand::date)?)
            } else {
                return Err(ConditionError::NoOperator);
            }
        }
    })
}

fn order_of(name: &str) -> Result<(Sense, Order), ConditionError> {
    Ok(match name {
        "Equals" => (Sense::Is, Order::Equal),
        "NotEquals" => (Sense::IsNot, Order::Equal),
        "LessThan" => (Sense::Is, Order::Less),
        "LessThanEquals" => (Sense::Is, Order::LessOrEqual),
        "GreaterThan" => (Sense::Is, Order::Greater),
        "GreaterThanEquals" => (Sense::Is, Order::GreaterOrEqual),
        _ => return Err(ConditionError::NoOperator),
    })
}

fn all<T>(values: &[String], parse: fn(&str) -> Option<T>) -> Result<Vec<T>, ConditionError> {
    values.iter().map(|value| parse(value).ok_or(ConditionError::Value)).collect()
}

/// Whether the name is one of an operator, with its prefix and suffix.
pub(crate) fn is_operator(name: &str) -> bool {
    Condition::compile(name, "", &[], Variables::Literal).is_ok()
}
