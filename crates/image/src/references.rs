//! The names that the store knows, kept in its `index.json`: the store is a valid OCI image
//! layout, and other tools can read it.

use std::collections::{BTreeMap, HashMap};

use oci_spec::image::{
    Descriptor, DescriptorBuilder, Digest as OciDigest, ImageIndex, ImageIndexBuilder, MediaType,
};
use wharf_core::Timestamp;
use wharf_core::limits::IMAGE_REFERENCES_MAX;

use crate::digest::Digest;
use crate::documents::{self, Target};
use crate::error::Error;
use crate::layout::Layout;
use crate::reference::Reference;

/// Docker's and containerd's annotation for a full name.
pub(crate) const NAME_ANNOTATION: &str = "io.containerd.image.name";
pub(crate) const REF_NAME_ANNOTATION: &str = "org.opencontainers.image.ref.name";
const LOADED_ANNOTATION: &str = "wharf.loaded-ms";
const WHAT: &str = "index of the image store";

/// What a name stands for.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) target: Target,
    pub(crate) loaded: Timestamp,
}

pub(crate) type References = BTreeMap<Reference, Named>;

pub(crate) fn read(layout: &Layout) -> Result<References, Error> {
    let path = layout.index();
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(References::new()),
        Err(error) => return Err(Error::io("read", &path, error)),
    };
    let index: ImageIndex = documents::parse(WHAT, &bytes)?;
    let mut references = References::new();
    for descriptor in index.manifests() {
        let annotation = |name: &str| descriptor.annotations().as_ref().and_then(|all| all.get(name));
        let name = annotation(NAME_ANNOTATION).ok_or_else(|| Error::corrupt(WHAT, "an image has no name"))?;
        let loaded = annotation(LOADED_ANNOTATION).and_then(|text| text.parse().ok()).unwrap_or(0);
        references.insert(
            Reference::parse(name)?,
            Named {
                target: Target::from_descriptor(WHAT, descriptor)?,
                loaded: Timestamp::from_millis(loaded),
            },
        );
    }
    Ok(references)
}

pub(crate) fn write(layout: &Layout, references: &References) -> Result<(), Error> {
    if references.len() > IMAGE_REFERENCES_MAX {
        let max = IMAGE_REFERENCES_MAX as u64;
        return Err(Error::TooLarge { what: "the image store".to_owned(), max, unit: "names" });
    }
    let mut manifests = Vec::with_capacity(references.len());
    for (reference, named) in references {
        let annotations = HashMap::from([
            (NAME_ANNOTATION.to_owned(), reference.to_string()),
            (REF_NAME_ANNOTATION.to_owned(), reference.tag().unwrap_or_default().to_owned()),
            (LOADED_ANNOTATION.to_owned(), named.loaded.as_millis().to_string()),
        ]);
        manifests.push(descriptor(
            &named.target.media_type,
            named.target.digest,
            named.target.bytes,
            Some(annotations),
        )?);
    }
    layout.write_file(&layout.index(), &index_bytes(manifests)?)
}

pub(crate) fn descriptor(
    media_type: &str,
    digest: Digest,
    bytes: u64,
    annotations: Option<HashMap<String, String>>,
) -> Result<Descriptor, Error> {
    let malformed = |error: &dyn std::fmt::Display| Error::corrupt("descriptor", error.to_string());
    let digest: OciDigest = digest.to_string().parse().map_err(|error| malformed(&error))?;
    let builder =
        DescriptorBuilder::default().media_type(MediaType::from(media_type)).digest(digest).size(bytes);
    let builder = match annotations {
        Some(annotations) => builder.annotations(annotations),
        None => builder,
    };
    builder.build().map_err(|error| malformed(&error))
}

/// An index as JSON, its members in a fixed order.
pub(crate) fn index_bytes(manifests: Vec<Descriptor>) -> Result<Vec<u8>, Error> {
    let index = ImageIndexBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageIndex)
        .manifests(manifests)
        .build()
        .map_err(|error| Error::corrupt("index", error.to_string()))?;
    json("index", &index)
}

/// JSON whose bytes follow from the value alone: maps are sorted by going through [`serde_json::Value`].
pub(crate) fn json(what: &'static str, value: &impl serde::Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_value(value)
        .and_then(|value| serde_json::to_vec(&value))
        .map_err(|error| Error::corrupt(what, error.to_string()))
}
