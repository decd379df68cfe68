//! `docker save` before version 25: `manifest.json` lists configurations and uncompressed layers,
//! and there is no manifest; one in OCI form is made for each image, the same each time.

use std::fs::File;
use std::io::Read;

use oci_spec::image::{ImageManifestBuilder, MediaType};
use serde::Deserialize;
use wharf_core::limits::{IMAGE_ARCHIVE_IMAGES_MAX, IMAGE_LAYERS_MAX};

use crate::digest::Digest;
use crate::documents::{self, OCI_CONFIG, OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, OCI_MANIFEST, Target};
use crate::error::Error;
use crate::load::spool::Spooled;
use crate::load::{Found, Spool};
use crate::reference::Reference;
use crate::references::{descriptor, json};
use crate::stream::Compression;

const LIST: &str = "manifest.json";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

pub(super) fn find(spool: &mut Spool) -> Result<Vec<Found>, Error> {
    let list: Vec<Listed> = documents::parse(LIST, &spool.read_file(LIST, spool.file(LIST.as_bytes())?)?)?;
    if list.len() > IMAGE_ARCHIVE_IMAGES_MAX {
        let max = IMAGE_ARCHIVE_IMAGES_MAX as u64;
        return Err(Error::TooLarge { what: "the archive".to_owned(), max, unit: "images" });
    }
    list.into_iter()
        .map(|listed| {
            let references = listed
                .repo_tags
                .iter()
                .flatten()
                .map(|name| Reference::parse(name))
                .collect::<Result<_, _>>()?;
            Ok(Found { references, target: make_manifest(spool, &listed)? })
        })
        .collect()
}

fn make_manifest(spool: &mut Spool, listed: &Listed) -> Result<Target, Error> {
    let config = spool.file(listed.config.as_bytes())?;
    check_config_name(&listed.config, config)?;
    let config = descriptor(OCI_CONFIG, config.digest, config.bytes, None)?;
    let names = listed.layers.as_deref().unwrap_or_default();
    if names.len() > IMAGE_LAYERS_MAX {
        return Err(Error::TooLarge {
            what: "the image".to_owned(),
            max: IMAGE_LAYERS_MAX as u64,
            unit: "layers",
        });
    }
    let mut layers = Vec::with_capacity(names.len());
    for name in names {
        let layer = spool.file(name.as_bytes())?;
        layers.push(descriptor(media_type(layer)?, layer.digest, layer.bytes, None)?);
    }
    let manifest = ImageManifestBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageManifest)
        .config(config)
        .layers(layers)
        .build()
        .map_err(|error| Error::corrupt(LIST, error.to_string()))?;
    let bytes = json("manifest", &manifest)?;
    let file = spool.add_document(&bytes)?;
    Ok(Target { digest: file.digest, media_type: OCI_MANIFEST.to_owned(), bytes: file.bytes })
}

/// The configuration's file is named by its digest.
fn check_config_name(name: &str, config: &Spooled) -> Result<(), Error> {
    let expected = name.strip_suffix(".json").and_then(|hex| Digest::from_hex(hex).ok());
    match expected {
        Some(expected) if expected != config.digest => {
            let what = format!("entry {name:?} of the archive");
            Err(Error::WrongDigest { what, expected, actual: config.digest })
        }
        _ => Ok(()),
    }
}

fn media_type(layer: &Spooled) -> Result<&'static str, Error> {
    let mut magic = Vec::new();
    File::open(&layer.path)
        .and_then(|file| file.take(4).read_to_end(&mut magic))
        .map_err(|error| Error::io("read", &layer.path, error))?;
    Ok(match Compression::of(&magic) {
        Compression::None => OCI_LAYER,
        Compression::Gzip => OCI_LAYER_GZIP,
        Compression::Zstd => OCI_LAYER_ZSTD,
    })
}
