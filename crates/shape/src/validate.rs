//! Checks a decoded input against its table and words the result as AWS does.

use std::fmt::Write as _;

use wharf_core::ApiError;

use crate::path::{Path, Step};
use crate::service::{Operation, ServiceModel, ValidationForm};
use crate::table::{ListShape, MapShape, NumberShape, Shape, StringShape};
use crate::value::{Decoded, List, Map, Structure, View};

/// How many broken constraints one error names.
const VIOLATIONS_MAX: usize = 50;
/// How much of a value an error repeats, in characters.
const ECHO_CHARS_MAX: usize = 1024;

/// Whether an input keeps the constraints of its model: required members, lengths, ranges,
/// patterns, enums and unions.
///
/// # Errors
/// AWS's own error for the service. In the usual form it names every broken constraint; EC2 names
/// the first.
pub fn validate(model: &ServiceModel, operation: &Operation, decoded: &Decoded) -> Result<(), ApiError> {
    let mut walk = Walk { missing: &decoded.missing, path: Path::default(), violations: Vec::new() };
    for path in decoded.missing.iter().take(VIOLATIONS_MAX) {
        walk.violations.push(Violation {
            path: path.clone(),
            value: Echo::Null,
            constraint: Constraint::Required,
        });
    }
    walk.structure(&*decoded.input);
    let Some(first) = walk.violations.first() else { return Ok(()) };
    let code = operation.validation_code.unwrap_or(model.validation.code);
    Err(match model.validation.form {
        ValidationForm::Constraint => {
            let count = walk.violations.len();
            let plural = if count == 1 { "" } else { "s" };
            let mut message = format!("{count} validation error{plural} detected: ");
            for (index, violation) in walk.violations.iter().enumerate() {
                message.push_str(if index > 0 { "; " } else { "" });
                violation.word(&mut message);
            }
            ApiError::sender(code, message)
        }
        ValidationForm::Ec2 => first.ec2(code),
    })
}

struct Violation {
    path: String,
    value: Echo,
    constraint: Constraint,
}

/// What an error repeats of a value.
enum Echo {
    Null,
    Sensitive,
    Text(String),
}

enum Constraint {
    Required,
    LengthMin(u64),
    LengthMax(u64),
    RangeMin(f64),
    RangeMax(f64),
    Pattern(&'static str),
    Enum(&'static [&'static str]),
    /// An item of a list of scalars: AWS names all constraints of the item at the list.
    Item(String),
    Key(String),
    Value(String),
    Union,
}

impl Constraint {
    fn word(&self) -> String {
        match self {
            Self::Required => "Member must not be null".into(),
            Self::LengthMin(min) => format!("Member must have length greater than or equal to {min}"),
            Self::LengthMax(max) => format!("Member must have length less than or equal to {max}"),
            Self::RangeMin(min) => format!("Member must have value greater than or equal to {min}"),
            Self::RangeMax(max) => format!("Member must have value less than or equal to {max}"),
            Self::Pattern(pattern) => format!("Member must satisfy regular expression pattern: {pattern}"),
            Self::Enum(values) => format!("Member must satisfy enum value set: [{}]", values.join(", ")),
            Self::Item(all) => format!("Member must satisfy constraint: [{all}]"),
            Self::Key(all) => format!("Map keys must satisfy constraint: [{all}]"),
            Self::Value(all) => format!("Map value must satisfy constraint: [{all}]"),
            Self::Union => "Member must have exactly one of its members set".into(),
        }
    }
}

impl Violation {
    fn word(&self, out: &mut String) {
        let value = match &self.value {
            Echo::Null => "Value null".to_owned(),
            Echo::Sensitive => "Value".to_owned(),
            Echo::Text(text) => format!("Value '{text}'"),
        };
        // Writing to a string cannot fail.
        let _ = write!(
            out,
            "{value} at '{}' failed to satisfy constraint: {}",
            self.path,
            self.constraint.word()
        );
    }

    fn ec2(&self, code: &'static str) -> ApiError {
        let invalid = |expecting: String| {
            let value = match &self.value {
                Echo::Text(text) => text.as_str(),
                Echo::Null | Echo::Sensitive => "",
            };
            ApiError::sender(
                code,
                format!("Value ( {value} ) for parameter {} is invalid. {expecting}", self.path),
            )
        };
        match &self.constraint {
            Constraint::Required => ApiError::sender(
                "MissingParameter",
                format!("The request must contain the parameter {}", self.path),
            ),
            Constraint::RangeMin(min) => invalid(format!("Expecting a value greater than {min}.")),
            Constraint::RangeMax(max) => invalid(format!("Expecting a value less than or equal to {max}.")),
            other => invalid(format!("{}.", other.word())),
        }
    }
}

struct Walk<'a> {
    missing: &'a [String],
    path: Path,
    violations: Vec<Violation>,
}

impl Walk<'_> {
    fn structure(&mut self, structure: &dyn Structure) {
        let shape = structure.shape();
        let mut set = 0;
        for (index, member) in shape.members.iter().enumerate() {
            let view = structure.member(index);
            if matches!(view, View::Absent) {
                continue;
            }
            set += 1;
            self.path.push(Step::Member(member.name));
            if !(member.required && self.is_missing()) {
                self.value(&member.shape, view);
            }
            self.path.pop();
        }
        if shape.union && set != 1 && !self.is_missing() {
            self.add(Echo::Sensitive, Constraint::Union);
        }
    }

    fn is_missing(&self) -> bool {
        !self.missing.is_empty() && {
            let path = self.path.to_string();
            self.missing.contains(&path)
        }
    }

    fn add(&mut self, value: Echo, constraint: Constraint) {
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(Violation { path: self.path.to_string(), value, constraint });
        }
    }

    fn value(&mut self, shape: &Shape, view: View<'_>) {
        match (view, shape) {
            (View::Structure(structure), _) => self.structure(structure),
            (View::List(list), Shape::List(shape)) => self.list(shape, list),
            (View::Map(map), Shape::Map(shape)) => self.map(shape, map),
            (view, shape) => {
                for constraint in broken(shape, &view) {
                    self.add(echo(shape, &view), constraint);
                }
            }
        }
    }

    fn list(&mut self, shape: &ListShape, list: &dyn List) {
        for constraint in length(list.len(), shape.min, shape.max) {
            self.add(Echo::Text(echo_list(shape, list)), constraint);
        }
        let scalar = is_scalar(&shape.member);
        let mut item_reported = false;
        for index in 0..list.len() {
            let item = list.item(index);
            if scalar && (item_reported || broken(&shape.member, &item).is_empty()) {
                continue;
            }
            self.path.push(Step::Item(index));
            let missing = self.is_missing();
            if !scalar && !missing {
                self.value(&shape.member, item);
            }
            self.path.pop();
            if scalar && !missing {
                item_reported = true;
                self.add(Echo::Text(echo_list(shape, list)), Constraint::Item(all(&shape.member)));
            }
        }
    }

    fn map(&mut self, shape: &MapShape, map: &dyn Map) {
        for constraint in length(map.len(), shape.min, shape.max) {
            self.add(Echo::Text(echo_map(shape, map)), constraint);
        }
        let scalar = is_scalar(&shape.value);
        let (mut key_reported, mut value_reported) = (false, false);
        for (key, value) in map.entries() {
            if !key_reported && !broken(&shape.key, &View::String(key)).is_empty() {
                key_reported = true;
                self.add(Echo::Text(echo_map(shape, map)), Constraint::Key(all(&shape.key)));
            }
            if !scalar {
                self.path.push(Step::Entry(key.to_owned()));
                self.value(&shape.value, value);
                self.path.pop();
            } else if !value_reported && !broken(&shape.value, &value).is_empty() {
                value_reported = true;
                self.add(Echo::Text(echo_map(shape, map)), Constraint::Value(all(&shape.value)));
            }
        }
    }
}

fn is_scalar(shape: &Shape) -> bool {
    !matches!(shape, Shape::Structure(_) | Shape::List(_) | Shape::Map(_) | Shape::Document)
}

/// The constraints that a scalar breaks.
fn broken(shape: &Shape, view: &View<'_>) -> Vec<Constraint> {
    match (shape, view) {
        (Shape::String(shape), View::String(text)) => {
            let mut broken = Vec::new();
            if shape.min.is_some() || shape.max.is_some() {
                broken.extend(length(text.chars().count(), shape.min, shape.max));
            }
            if let Some(pattern) = shape.pattern
                && !pattern.matches(text)
            {
                broken.push(Constraint::Pattern(pattern.as_str()));
            }
            if !shape.values.is_empty() && !shape.values.contains(text) {
                broken.push(Constraint::Enum(shape.values));
            }
            broken
        }
        (Shape::Blob(shape), View::Blob(bytes)) => length(bytes.len(), shape.min, shape.max).collect(),
        (Shape::Integer(shape), View::Integer(value)) => range(shape, f64::from(*value)),
        // A bound is far below the numbers that a double cannot hold.
        (Shape::Long(shape), View::Long(value)) => range(shape, *value as f64),
        (Shape::Double(shape), View::Double(value)) => range(shape, *value),
        _ => Vec::new(),
    }
}

fn length(length: usize, min: Option<u64>, max: Option<u64>) -> impl Iterator<Item = Constraint> {
    let length = length as u64;
    let above = max.filter(|max| length > *max).map(Constraint::LengthMax);
    let below = min.filter(|min| length < *min).map(Constraint::LengthMin);
    above.into_iter().chain(below)
}

fn range(shape: &NumberShape, value: f64) -> Vec<Constraint> {
    // A value that is not a number is in no range.
    let below = shape.min.filter(|min| value < *min || value.is_nan()).map(Constraint::RangeMin);
    let above = shape.max.filter(|max| value > *max || value.is_nan()).map(Constraint::RangeMax);
    above.into_iter().chain(below).collect()
}

/// All constraints of a scalar, as AWS lists them for the items of a list or map.
fn all(shape: &Shape) -> String {
    let mut constraints = Vec::new();
    match shape {
        Shape::String(StringShape { min, max, pattern, values, .. }) => {
            constraints.extend(max.map(Constraint::LengthMax));
            constraints.extend(min.map(Constraint::LengthMin));
            constraints.extend(pattern.map(|pattern| Constraint::Pattern(pattern.as_str())));
            if !values.is_empty() {
                constraints.push(Constraint::Enum(values));
            }
        }
        Shape::Blob(shape) => {
            constraints.extend(shape.max.map(Constraint::LengthMax));
            constraints.extend(shape.min.map(Constraint::LengthMin));
        }
        Shape::Integer(shape) | Shape::Long(shape) | Shape::Double(shape) => {
            constraints.extend(shape.max.map(Constraint::RangeMax));
            constraints.extend(shape.min.map(Constraint::RangeMin));
        }
        _ => {}
    }
    let words: Vec<String> = constraints.iter().map(Constraint::word).collect();
    words.join(", ")
}

fn echo(shape: &Shape, view: &View<'_>) -> Echo {
    let sensitive = match shape {
        Shape::String(shape) => shape.sensitive,
        Shape::Blob(shape) => shape.sensitive,
        _ => false,
    };
    match view {
        _ if sensitive => Echo::Sensitive,
        View::String(text) => Echo::Text(bounded(text)),
        View::Integer(value) => Echo::Text(value.to_string()),
        View::Long(value) => Echo::Text(value.to_string()),
        View::Double(value) => Echo::Text(value.to_string()),
        _ => Echo::Sensitive,
    }
}

fn echo_text(shape: &Shape, view: &View<'_>) -> String {
    match echo(shape, view) {
        Echo::Text(text) => text,
        Echo::Null | Echo::Sensitive => "...".to_owned(),
    }
}

/// `[a, b]`.
fn echo_list(shape: &ListShape, list: &dyn List) -> String {
    let mut text = String::from("[");
    for index in 0..list.len() {
        if text.len() > ECHO_CHARS_MAX {
            break;
        }
        text.push_str(if index > 0 { ", " } else { "" });
        text.push_str(&echo_text(&shape.member, &list.item(index)));
    }
    bounded(&text) + "]"
}

/// `{key=value}`.
fn echo_map(shape: &MapShape, map: &dyn Map) -> String {
    let mut text = String::from("{");
    for (index, (key, value)) in map.entries().enumerate() {
        if text.len() > ECHO_CHARS_MAX {
            break;
        }
        text.push_str(if index > 0 { ", " } else { "" });
        text.push_str(&bounded(key));
        text.push('=');
        text.push_str(&echo_text(&shape.value, &value));
    }
    bounded(&text) + "}"
}

fn bounded(text: &str) -> String {
    text.chars().take(ECHO_CHARS_MAX).collect()
}
