//! Documents: members whose form the model leaves open.

use std::collections::BTreeMap;

/// A value of any JSON form.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Document {
    #[default]
    Null,
    Boolean(bool),
    Integer(i64),
    Double(f64),
    String(String),
    List(Vec<Document>),
    Map(BTreeMap<String, Document>),
}
