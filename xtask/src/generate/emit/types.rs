//! `types.rs`: the structures and the open enums.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::{Context as _, bail, ensure};

use super::super::model::{Reference, ShapeModel};
use super::super::names::{field, type_name, variant};
use super::{Emitter, is_enum, is_structure};

impl Emitter<'_> {
    pub(super) fn types(&self) -> anyhow::Result<String> {
        let mut out = format!(
            "//! The structures and open enums of the API. An enum keeps a value that it does not know.\n\
             //!\n//! {}\n\nuse std::collections::BTreeMap;\n\nuse wharf_core::Timestamp;\n\
             use wharf_shape::{{Document, Slot, Structure, StructureShape, Text, Value, View}};\n\n\
             use crate::shapes;\n",
            self.header
        );
        let mut body = String::new();
        for name in &self.values {
            let shape = self.shape(name)?;
            if is_structure(shape) {
                self.structure(&mut body, name, shape)?;
            } else if is_enum(shape) {
                enumeration(&mut body, name, shape)?;
            }
        }
        let has_field = |kind: &str| {
            [format!(": {kind},"), format!("<{kind}>"), format!(" {kind}>")]
                .iter()
                .any(|field| body.contains(field))
        };
        let uses_value = body.contains(".view()") || body.contains("impl Value");
        for (import, used) in [
            ("use std::collections::BTreeMap;\n\n", body.contains("BTreeMap<")),
            ("use wharf_core::Timestamp;\n", has_field("Timestamp")),
            ("Document, ", has_field("Document")),
            ("Text, ", body.contains("impl Text")),
            ("Value, ", uses_value),
        ] {
            if !used {
                out = out.replace(import, "");
            }
        }
        Ok(out + &body)
    }

    fn structure(&self, out: &mut String, name: &str, shape: &ShapeModel) -> anyhow::Result<()> {
        let (type_name, constant) = (type_name(name), self.constant(name));
        let mut fields = BTreeSet::new();
        let hides = shape.members.values().map(|member| self.is_sensitive(&member.shape));
        let hides = hides.collect::<anyhow::Result<Vec<_>>>()?.contains(&true);
        let debug = if hides { "" } else { "Debug, " };
        writeln!(out, "\n#[derive(Clone, {debug}Default, PartialEq)]\npub struct {type_name} {{")?;
        for (member, reference) in &shape.members {
            ensure!(fields.insert(field(member)), "{name} would have two fields {}", field(member));
            let mut kind = self.rust_type(&reference.shape)?;
            if self.boxed.contains(&(name, member.as_str())) {
                kind = format!("Box<{kind}>");
            }
            if !shape.required.contains(member) {
                kind = format!("Option<{kind}>");
            } else if self.boxed.contains(&(name, member.as_str())) {
                bail!("{name} requires itself by way of {member}");
            }
            writeln!(out, "pub {}: {kind},", field(member))?;
        }
        let (mut views, mut slots) = (String::new(), String::new());
        for (index, member) in shape.members.keys().enumerate() {
            writeln!(views, "{index} => self.{}.view(),", field(member))?;
            writeln!(slots, "{index} => self.{}.slot(),", field(member))?;
        }
        writeln!(
            out,
            "}}\n\nimpl Structure for {type_name} {{\n\
             fn shape(&self) -> &'static StructureShape {{ &shapes::{constant} }}\n"
        )?;
        if hides {
            // What must not be logged is not in what `{:?}` writes.
            let debug = format!(
                "impl std::fmt::Debug for {type_name} {{\n\
                 fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {{\n\
                 wharf_shape::debug(self, formatter) }}\n}}\n\n"
            );
            let place = out.rfind("impl Structure for").context("the impl has just been written")?;
            out.insert_str(place, &debug);
        }
        if shape.members.is_empty() {
            writeln!(
                out,
                "fn member(&self, _index: usize) -> View<'_> {{ View::Absent }}\n\n\
                 fn member_mut(&mut self, _index: usize) -> Option<Slot<'_>> {{ None }}\n}}"
            )?;
        } else {
            writeln!(
                out,
                "fn member(&self, index: usize) -> View<'_> {{ match index {{ {views} _ => View::Absent, }} }}\n\n\
                 fn member_mut(&mut self, index: usize) -> Option<Slot<'_>> {{\n\
                 Some(match index {{ {slots} _ => return None, }}) }}\n}}"
            )?;
        }
        Ok(())
    }

    /// Whether a value of this shape is, or holds in lists and maps, what must not be logged.
    /// Structures look after their own members.
    fn is_sensitive(&self, name: &str) -> anyhow::Result<bool> {
        let shape = self.shape(name)?;
        let inner = |reference: &Option<Reference>| {
            reference.as_ref().map_or(Ok(false), |reference| self.is_sensitive(&reference.shape))
        };
        Ok(match shape.kind.as_str() {
            "list" => inner(&shape.member)?,
            "map" => inner(&shape.value)?,
            "structure" => false,
            _ => shape.sensitive,
        })
    }

    fn rust_type(&self, name: &str) -> anyhow::Result<String> {
        let shape = self.shape(name)?;
        let inner = |reference: &Option<Reference>| -> anyhow::Result<String> {
            self.rust_type(&reference.as_ref().context("a list or map without items")?.shape)
        };
        Ok(match shape.kind.as_str() {
            "structure" if shape.document => "Document".into(),
            "structure" => type_name(name),
            "string" if is_enum(shape) => type_name(name),
            "string" | "character" => "String".into(),
            "boolean" => "bool".into(),
            "byte" | "short" | "integer" => "i32".into(),
            "long" => "i64".into(),
            "float" | "double" => "f64".into(),
            "timestamp" => "Timestamp".into(),
            "blob" => "Vec<u8>".into(),
            "list" => format!("Vec<{}>", inner(&shape.member)?),
            "map" => format!("BTreeMap<String, {}>", inner(&shape.value)?),
            other => bail!("{name} is of the unknown kind {other}"),
        })
    }
}

fn enumeration(out: &mut String, name: &str, shape: &ShapeModel) -> anyhow::Result<()> {
    let type_name = type_name(name);
    let mut variants: Vec<(String, &str)> = Vec::new();
    for value in &shape.values {
        let mut variant = variant(value);
        while variants.iter().any(|(other, _)| *other == variant) {
            variant.push('_');
        }
        variants.push((variant, value));
    }
    let (mut names, mut texts, mut values) = (String::new(), String::new(), String::new());
    for (variant, value) in &variants {
        writeln!(names, "{variant},")?;
        writeln!(texts, "Self::{variant} => {value:?},")?;
        writeln!(values, "{value:?} => Self::{variant},")?;
    }
    writeln!(
        out,
        "\n#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]\npub enum {type_name} {{\n{names}\
         /// A value that the model does not know, or none: the default.\nUnknown(String),\n}}\n\n\
         impl {type_name} {{\npub const VALUES: &'static [&'static str] = &{:?};\n\n\
         pub fn as_str(&self) -> &str {{ match self {{ {texts} Self::Unknown(text) => text, }} }}\n}}\n\n\
         impl From<&str> for {type_name} {{ fn from(text: &str) -> Self {{ match text {{ {values} _ => Self::Unknown(text.to_owned()), }} }} }}\n\n\
         impl Default for {type_name} {{ fn default() -> Self {{ Self::Unknown(String::new()) }} }}\n\n\
         impl std::fmt::Display for {type_name} {{\n\
         fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {{ formatter.write_str(self.as_str()) }} }}\n\n\
         impl Text for {type_name} {{ fn set(&mut self, text: String) {{ *self = Self::from(text.as_str()); }} }}\n\n\
         impl Value for {type_name} {{\nfn view(&self) -> View<'_> {{ View::String(self.as_str()) }}\n\n\
         fn slot(&mut self) -> Slot<'_> {{ Slot::String(self) }} }}",
        shape.values
    )?;
    Ok(())
}
