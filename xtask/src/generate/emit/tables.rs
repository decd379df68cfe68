//! `shapes.rs`: the constant tables.

use std::fmt::Write as _;

use anyhow::{Context as _, bail, ensure};
use wharf_shape::{MEMBERS_MAX, Pattern};

use super::super::model::{Reference, ShapeModel};
use super::super::names::{capitalized, type_name};
use super::{Emitter, is_enum};

impl Emitter<'_> {
    pub(super) fn shapes(&self) -> anyhow::Result<String> {
        let mut body = String::new();
        for name in self.values.union(&self.errors) {
            self.table(&mut body, name)?;
        }
        for name in self.error_names() {
            let (code, status, receiver) = self.error_facts(name)?;
            let constant = self.constant(name);
            writeln!(
                body,
                "pub(crate) static ERROR_{constant}: ErrorShape = ErrorShape {{ code: {code:?}, status: {status}, \
                 receiver: {receiver}, structure: &{constant} }};"
            )?;
        }
        let mut imports: Vec<&str> = [
            "BlobShape",
            "ErrorShape",
            "ListShape",
            "Location",
            "MapShape",
            "Member",
            "NumberShape",
            "Pattern",
            "Shape",
            "StringShape",
            "StructureShape",
            "TimestampFormat",
        ]
        .into_iter()
        .filter(|name| body.contains(&format!(" {name} ")) || body.contains(&format!("{name}::")))
        .collect();
        imports.sort_unstable();
        let types = if body.contains("types::") { "\nuse crate::types;\n" } else { "" };
        Ok(format!(
            "//! The tables of the API's shapes.\n//!\n//! {}\n\nuse wharf_shape::{{{}}};\n{types}\n{body}",
            self.header,
            imports.join(", ")
        ))
    }

    fn table(&self, out: &mut String, name: &str) -> anyhow::Result<()> {
        let shape = self.shape(name)?;
        let constant = self.constant(name);
        let of = |reference: &Option<Reference>| -> anyhow::Result<String> {
            self.shape_expression(reference.as_ref().context("a list or map without items")?)
        };
        let item_name = |reference: &Option<Reference>| {
            format!("{:?}", reference.as_ref().and_then(|reference| reference.location_name.as_deref()))
        };
        let bounds = format!("min: {}, max: {}", length(shape.min)?, length(shape.max)?);
        match shape.kind.as_str() {
            "structure" if shape.document => {}
            "structure" => {
                ensure!(shape.members.len() <= MEMBERS_MAX, "{name} has more than {MEMBERS_MAX} members");
                let mut members = String::new();
                for (member, reference) in &shape.members {
                    writeln!(members, "{},", self.member(shape, member, reference)?)?;
                }
                writeln!(
                    out,
                    "pub(crate) static {constant}: StructureShape = StructureShape {{ name: {name:?}, union: {}, members: &[{members}] }};",
                    shape.union
                )?;
            }
            "list" => writeln!(
                out,
                "static {constant}: ListShape = ListShape {{ member: {}, member_name: {}, flattened: {}, {bounds} }};",
                of(&shape.member)?,
                item_name(&shape.member),
                shape.flattened,
            )?,
            "map" => writeln!(
                out,
                "static {constant}: MapShape = MapShape {{ key: {}, value: {}, key_name: {}, value_name: {}, flattened: {}, {bounds} }};",
                of(&shape.key)?,
                of(&shape.value)?,
                item_name(&shape.key),
                item_name(&shape.value),
                shape.flattened,
            )?,
            "string" if self.has_table(shape) => {
                let pattern = match &shape.pattern {
                    Some(pattern) => {
                        Pattern::check(pattern).with_context(|| format!("the shape {name} needs a patch"))?;
                        writeln!(out, "static PATTERN_{constant}: Pattern = Pattern::new({pattern:?});")?;
                        format!("Some(&PATTERN_{constant})")
                    }
                    None => "None".to_owned(),
                };
                let values = match (is_enum(shape), self.values.contains(name)) {
                    (true, true) => format!("types::{}::VALUES", type_name(name)),
                    (true, false) => format!("&{:?}", shape.values),
                    (false, _) => "&[]".to_owned(),
                };
                writeln!(
                    out,
                    "static {constant}: StringShape = StringShape {{ {bounds}, pattern: {pattern}, values: {values}, sensitive: {} }};",
                    shape.sensitive
                )?;
            }
            "blob" if self.has_table(shape) => writeln!(
                out,
                "static {constant}: BlobShape = BlobShape {{ {bounds}, sensitive: {} }};",
                shape.sensitive
            )?,
            _ if self.has_table(shape) => writeln!(
                out,
                "static {constant}: NumberShape = NumberShape {{ min: {:?}, max: {:?} }};",
                shape.min, shape.max
            )?,
            _ => {}
        }
        Ok(())
    }

    /// Whether a scalar says more than its kind does.
    pub(super) fn has_table(&self, shape: &ShapeModel) -> bool {
        let bounded = shape.min.is_some() || shape.max.is_some();
        match shape.kind.as_str() {
            "string" | "character" => bounded || shape.pattern.is_some() || is_enum(shape) || shape.sensitive,
            "blob" => bounded || shape.sensitive,
            "byte" | "short" | "integer" | "long" | "float" | "double" => bounded,
            _ => false,
        }
    }

    fn shape_expression(&self, reference: &Reference) -> anyhow::Result<String> {
        let shape = self.shape(&reference.shape)?;
        let constant = self.constant(&reference.shape);
        let scalar = |kind: &str, plain: &str| {
            if self.has_table(shape) {
                format!("Shape::{kind}(&{constant})")
            } else {
                format!("Shape::{plain}")
            }
        };
        Ok(match shape.kind.as_str() {
            "structure" if shape.document => "Shape::Document".into(),
            "structure" => format!("Shape::Structure(&{constant})"),
            "list" => format!("Shape::List(&{constant})"),
            "map" => format!("Shape::Map(&{constant})"),
            "string" | "character" => scalar("String", "STRING"),
            "blob" => scalar("Blob", "BLOB"),
            "boolean" => "Shape::Boolean".into(),
            "byte" | "short" | "integer" => scalar("Integer", "INTEGER"),
            "long" => scalar("Long", "LONG"),
            "float" | "double" => scalar("Double", "DOUBLE"),
            "timestamp" => match reference.timestamp_format.as_ref().or(shape.timestamp_format.as_ref()) {
                None => "Shape::TIMESTAMP".into(),
                Some(format) => {
                    let format = match format.as_str() {
                        "iso8601" => "Iso8601",
                        "rfc822" => "Rfc822",
                        "unixTimestamp" => "UnixTimestamp",
                        other => bail!("unknown timestamp format {other}"),
                    };
                    format!("Shape::Timestamp(Some(TimestampFormat::{format}))")
                }
            },
            other => bail!("{} is of the unknown kind {other}", reference.shape),
        })
    }

    fn member(&self, parent: &ShapeModel, name: &str, reference: &Reference) -> anyhow::Result<String> {
        let mut out = format!("Member::new({name:?}, {})", self.shape_expression(reference)?);
        // A list's or map's own name where the reference has none: XML and Query flattened lists.
        if let Some(wire) = &reference.location_name
            && wire != name
        {
            write!(out, ".wire({wire:?})")?;
        }
        if let Some(query) = &reference.query_name {
            let wire = reference.location_name.as_deref().unwrap_or(name);
            if *query != capitalized(wire) {
                write!(out, ".query({query:?})")?;
            }
        }
        let location = match reference.location.as_deref() {
            _ if parent.payload.as_deref() == Some(name) => Some("Payload"),
            None => None,
            Some("header") => Some("Header"),
            Some("headers") => Some("Headers"),
            Some("uri") => Some("Uri"),
            Some("querystring") => Some("QueryString"),
            Some("statusCode") => Some("StatusCode"),
            Some(other) => bail!("unknown location {other}"),
        };
        if let Some(location) = location {
            write!(out, ".at(Location::{location})")?;
        }
        if parent.required.iter().any(|required| required == name) {
            out.push_str(".required()");
        }
        if reference.idempotency_token {
            out.push_str(".idempotency_token()");
        }
        if reference.xml_attribute {
            out.push_str(".xml_attribute()");
        }
        Ok(out)
    }
}

fn length(bound: Option<f64>) -> anyhow::Result<String> {
    Ok(match bound {
        None => "None".to_owned(),
        // Some models say -1 where there is no bound.
        Some(bound) if bound < 0.0 => "None".to_owned(),
        Some(bound) if bound.fract() == 0.0 => format!("Some({bound})"),
        Some(bound) => bail!("{bound} is no length"),
    })
}
