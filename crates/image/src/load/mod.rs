//! Archives given to `load`: spooled file by file into the store's `ingest/`, hashed on the way,
//! and only then looked at. An OCI image layout and the two forms of `docker save` end as the same
//! thing: names, and the manifests they stand for. Nothing here makes anything visible.

mod docker;
mod oci;
mod spool;

use std::io::Read;

use crate::documents::Target;
use crate::error::Error;
use crate::layout::Layout;
use crate::limits::Limits;
use crate::reference::Reference;

pub(crate) use spool::{Spool, read_document};

pub(crate) const ARCHIVE: &str = "archive";

/// An image of an archive.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) references: Vec<Reference>,
    pub(crate) target: Target,
}

/// Reads a whole archive. `name` takes the place of the names that the archive gives.
pub(crate) fn read_archive(
    reader: impl Read,
    name: Option<&Reference>,
    layout: &Layout,
    limits: &Limits,
) -> Result<(Spool, Vec<Found>), Error> {
    let mut spool = Spool::read(reader, layout, limits)?;
    let mut found = if spool.has(b"index.json") {
        oci::find(&spool)?
    } else if spool.has(b"manifest.json") {
        docker::find(&mut spool)?
    } else {
        let reason = "it is no image: it has neither an index.json nor a manifest.json";
        return Err(Error::corrupt(ARCHIVE, reason));
    };
    if found.is_empty() {
        return Err(Error::corrupt(ARCHIVE, "it holds no image"));
    }
    if let Some(name) = name {
        let [image] = found.as_mut_slice() else {
            return Err(Error::OneName { count: found.len() });
        };
        image.references = vec![name.clone()];
    }
    if found.iter().any(|image| image.references.is_empty()) {
        return Err(Error::NoName);
    }
    Ok((spool, found))
}
