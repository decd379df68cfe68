//! How a structure that holds secrets is debugged: by its table, without what must not be logged.

use std::fmt::{Debug, Formatter, Result};

use crate::table::Shape;
use crate::value::{Structure, View};

/// What stands for a value that must not be seen.
const HIDDEN: &str = "(sensitive)";

/// Writes a structure by the names of its members; those whose shape is sensitive are left out. For
/// the `Debug` of generated types that have such members.
///
/// # Errors
/// When the formatter fails.
pub fn debug(structure: &dyn Structure, formatter: &mut Formatter<'_>) -> Result {
    let shape = structure.shape();
    let mut out = formatter.debug_struct(shape.name);
    for (index, member) in shape.members.iter().enumerate() {
        out.field(member.name, &Shown { view: structure.member(index), shape: &member.shape });
    }
    out.finish()
}

struct Shown<'a> {
    view: View<'a>,
    shape: &'a Shape,
}

impl Debug for Shown<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> Result {
        match (self.view, self.shape) {
            (View::Absent, _) => formatter.write_str("None"),
            (View::String(_), Shape::String(shape)) if shape.sensitive => formatter.write_str(HIDDEN),
            (View::Blob(_), Shape::Blob(shape)) if shape.sensitive => formatter.write_str(HIDDEN),
            (View::List(list), Shape::List(shape)) => {
                let items =
                    (0..list.len()).map(|index| Shown { view: list.item(index), shape: &shape.member });
                formatter.debug_list().entries(items).finish()
            }
            (View::Map(map), Shape::Map(shape)) => {
                let entries = map.entries().map(|(key, view)| (key, Shown { view, shape: &shape.value }));
                formatter.debug_map().entries(entries).finish()
            }
            // A structure hides its own.
            (View::Structure(structure), _) => structure.fmt(formatter),
            (View::Boolean(value), _) => value.fmt(formatter),
            (View::Integer(value), _) => value.fmt(formatter),
            (View::Long(value), _) => value.fmt(formatter),
            (View::Double(value), _) => value.fmt(formatter),
            (View::String(value), _) => value.fmt(formatter),
            (View::Blob(value), _) => value.fmt(formatter),
            (View::Timestamp(value), _) => value.fmt(formatter),
            (View::Document(value), _) => value.fmt(formatter),
            (View::List(_) | View::Map(_), _) => formatter.write_str(HIDDEN),
        }
    }
}
