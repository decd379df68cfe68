//! Values, erased: how a codec or a validator looks at a typed value and fills one.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use wharf_core::Timestamp;

use crate::document::Document;
use crate::table::{StructureShape, UNIT};

/// A look at a value.
#[derive(Clone, Copy)]
pub enum View<'a> {
    /// An optional member that is not set.
    Absent,
    Boolean(bool),
    Integer(i32),
    Long(i64),
    Double(f64),
    String(&'a str),
    Blob(&'a [u8]),
    Timestamp(Timestamp),
    Document(&'a Document),
    Structure(&'a dyn Structure),
    List(&'a dyn List),
    Map(&'a dyn Map),
}

/// A place to put a value. Asking an optional member for its slot sets the member.
pub enum Slot<'a> {
    Boolean(&'a mut bool),
    Integer(&'a mut i32),
    Long(&'a mut i64),
    Double(&'a mut f64),
    String(&'a mut dyn Text),
    Blob(&'a mut Vec<u8>),
    Timestamp(&'a mut Timestamp),
    Document(&'a mut Document),
    Structure(&'a mut dyn Structure),
    List(&'a mut dyn List),
    Map(&'a mut dyn Map),
}

/// Anything that a member can hold.
pub trait Value: Send + Sync {
    fn view(&self) -> View<'_>;
    fn slot(&mut self) -> Slot<'_>;
}

/// A generated structure: its table and access to its members by their index in the table.
pub trait Structure: Any + Debug + Send + Sync {
    fn shape(&self) -> &'static StructureShape;
    /// [`View::Absent`] beyond the last member.
    fn member(&self, index: usize) -> View<'_>;
    /// `None` beyond the last member.
    fn member_mut(&mut self, index: usize) -> Option<Slot<'_>>;
}

/// A string or an open enum.
pub trait Text {
    fn set(&mut self, text: String);
}

pub trait List {
    fn len(&self) -> usize;
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// [`View::Absent`] beyond the last item.
    fn item(&self, index: usize) -> View<'_>;
    /// Adds an empty item and gives its slot.
    fn push(&mut self) -> Slot<'_>;
}

pub trait Map {
    fn len(&self) -> usize;
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// In the order of the keys.
    fn entries(&self) -> Box<dyn Iterator<Item = (&str, View<'_>)> + '_>;
    /// Adds an entry, or replaces it, and gives the slot of its value.
    fn insert(&mut self, key: String) -> Slot<'_>;
}

/// What a codec makes of a request's body.
#[derive(Debug)]
pub struct Decoded {
    pub input: Box<dyn Structure>,
    /// The paths, in the form of AWS's messages, of required members (and items of lists and maps)
    /// that were absent or null. A required member is a plain field, so that the value itself
    /// cannot tell.
    pub missing: Vec<String>,
}

impl<T: Structure> Value for T {
    fn view(&self) -> View<'_> {
        View::Structure(self)
    }

    fn slot(&mut self) -> Slot<'_> {
        Slot::Structure(self)
    }
}

impl<T: Structure> Structure for Box<T> {
    fn shape(&self) -> &'static StructureShape {
        (**self).shape()
    }

    fn member(&self, index: usize) -> View<'_> {
        (**self).member(index)
    }

    fn member_mut(&mut self, index: usize) -> Option<Slot<'_>> {
        (**self).member_mut(index)
    }
}

/// A value that several answers share. To fill one that is shared copies it first.
impl<T: Structure + Clone> Structure for Arc<T> {
    fn shape(&self) -> &'static StructureShape {
        (**self).shape()
    }

    fn member(&self, index: usize) -> View<'_> {
        (**self).member(index)
    }

    fn member_mut(&mut self, index: usize) -> Option<Slot<'_>> {
        Self::make_mut(self).member_mut(index)
    }
}

impl Structure for () {
    fn shape(&self) -> &'static StructureShape {
        &UNIT
    }

    fn member(&self, _index: usize) -> View<'_> {
        View::Absent
    }

    fn member_mut(&mut self, _index: usize) -> Option<Slot<'_>> {
        None
    }
}

impl<T: Value + Default> Value for Option<T> {
    fn view(&self) -> View<'_> {
        self.as_ref().map_or(View::Absent, T::view)
    }

    fn slot(&mut self) -> Slot<'_> {
        self.get_or_insert_default().slot()
    }
}

impl<T: Value + Default> Value for Vec<T> {
    fn view(&self) -> View<'_> {
        View::List(self)
    }

    fn slot(&mut self) -> Slot<'_> {
        Slot::List(self)
    }
}

impl<T: Value + Default> List for Vec<T> {
    fn len(&self) -> usize {
        self.len()
    }

    fn item(&self, index: usize) -> View<'_> {
        self.get(index).map_or(View::Absent, T::view)
    }

    fn push(&mut self) -> Slot<'_> {
        self.push(T::default());
        let last = self.len() - 1;
        self[last].slot()
    }
}

impl<T: Value + Default> Value for BTreeMap<String, T> {
    fn view(&self) -> View<'_> {
        View::Map(self)
    }

    fn slot(&mut self) -> Slot<'_> {
        Slot::Map(self)
    }
}

impl<T: Value + Default> Map for BTreeMap<String, T> {
    fn len(&self) -> usize {
        self.len()
    }

    fn entries(&self) -> Box<dyn Iterator<Item = (&str, View<'_>)> + '_> {
        Box::new(self.iter().map(|(key, value)| (key.as_str(), value.view())))
    }

    fn insert(&mut self, key: String) -> Slot<'_> {
        match self.entry(key) {
            std::collections::btree_map::Entry::Occupied(entry) => {
                let value = entry.into_mut();
                *value = T::default();
                value.slot()
            }
            std::collections::btree_map::Entry::Vacant(entry) => entry.insert(T::default()).slot(),
        }
    }
}

impl Text for String {
    fn set(&mut self, text: String) {
        *self = text;
    }
}

impl Value for String {
    fn view(&self) -> View<'_> {
        View::String(self)
    }

    fn slot(&mut self) -> Slot<'_> {
        Slot::String(self)
    }
}

impl Value for Vec<u8> {
    fn view(&self) -> View<'_> {
        View::Blob(self)
    }

    fn slot(&mut self) -> Slot<'_> {
        Slot::Blob(self)
    }
}

impl Value for bool {
    fn view(&self) -> View<'_> {
        View::Boolean(*self)
    }

    fn slot(&mut self) -> Slot<'_> {
        Slot::Boolean(self)
    }
}

impl Value for i32 {
    fn view(&self) -> View<'_> {
        View::Integer(*self)
    }

    fn slot(&mut self) -> Slot<'_> {
        Slot::Integer(self)
    }
}

impl Value for i64 {
    fn view(&self) -> View<'_> {
        View::Long(*self)
    }

    fn slot(&mut self) -> Slot<'_> {
        Slot::Long(self)
    }
}

impl Value for f64 {
    fn view(&self) -> View<'_> {
        View::Double(*self)
    }

    fn slot(&mut self) -> Slot<'_> {
        Slot::Double(self)
    }
}

impl Value for Timestamp {
    fn view(&self) -> View<'_> {
        View::Timestamp(*self)
    }

    fn slot(&mut self) -> Slot<'_> {
        Slot::Timestamp(self)
    }
}

impl Value for Document {
    fn view(&self) -> View<'_> {
        View::Document(self)
    }

    fn slot(&mut self) -> Slot<'_> {
        Slot::Document(self)
    }
}
