//! An OCI image layout in a tar (image-spec `image-layout.md`), as BuildKit, skopeo, containerd and
//! `docker save` since version 25 write it.

use oci_spec::image::{Descriptor, ImageIndex};
use wharf_core::limits::IMAGE_ARCHIVE_IMAGES_MAX;

use crate::documents::{self, Target};
use crate::error::Error;
use crate::load::{ARCHIVE, Found, Spool};
use crate::reference::Reference;
use crate::references::{NAME_ANNOTATION, REF_NAME_ANNOTATION};

const INDEX: &str = "index.json";

pub(super) fn find(spool: &Spool) -> Result<Vec<Found>, Error> {
    if !spool.has(b"oci-layout") {
        return Err(Error::corrupt(ARCHIVE, "it has an index.json, but no oci-layout"));
    }
    let index: ImageIndex = documents::parse(INDEX, &spool.read_file(INDEX, spool.file(INDEX.as_bytes())?)?)?;
    if index.manifests().len() > IMAGE_ARCHIVE_IMAGES_MAX {
        let max = IMAGE_ARCHIVE_IMAGES_MAX as u64;
        return Err(Error::TooLarge { what: "the archive".to_owned(), max, unit: "images" });
    }
    let mut found: Vec<Found> = Vec::new();
    for descriptor in index.manifests().iter().filter(|descriptor| !is_attestation(descriptor)) {
        let target = Target::from_descriptor(INDEX, descriptor)?;
        let reference = name(descriptor)?;
        // An image with several names stands there once for each of them.
        match found.iter_mut().find(|image| image.target.digest == target.digest) {
            Some(image) => image.references.extend(reference),
            None => found.push(Found { references: reference.into_iter().collect(), target }),
        }
    }
    Ok(found)
}

/// BuildKit marks what is no image with a platform that no machine has.
fn is_attestation(descriptor: &Descriptor) -> bool {
    descriptor.platform().as_ref().is_some_and(|platform| platform.os().to_string() == "unknown")
}

fn name(descriptor: &Descriptor) -> Result<Option<Reference>, Error> {
    let annotation = |name: &str| descriptor.annotations().as_ref().and_then(|all| all.get(name));
    if let Some(name) = annotation(NAME_ANNOTATION) {
        return Reference::parse(name).map(Some);
    }
    match annotation(REF_NAME_ANNOTATION) {
        // Alone, a tag is no name.
        Some(name) if name.contains([':', '/']) => Reference::parse(name).map(Some),
        _ => Ok(None),
    }
}
