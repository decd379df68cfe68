//! What the store costs: `measure DIRECTORY`, run by root on the disk that matters.
//!
//! Prints the time to resolve a ready image, to load an archive, and to take a name away again.

#![expect(clippy::disallowed_methods, reason = "it measures")]

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use wharf_contracts::ImageSource;
use wharf_core::SystemClock;
use wharf_image::archive::{ArchiveImage, Layer, LayerCompression, program_image, write_docker};
use wharf_image::{Error, ImageConfig, ImageStore, Limits, LoadOptions, Reference};

const RESOLVES: u32 = 100_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let directory = std::env::args().nth(1).unwrap_or_else(|| "measure-images".to_owned());
    let store = ImageStore::open(Path::new(&directory), Arc::new(SystemClock), Limits::default())?;
    let mut out = std::io::stdout();

    let mut small = Vec::new();
    write_docker(&mut small, &program_image(Reference::parse("small")?, &vec![1; 1 << 20])?)?;
    let mut layer = Layer::new();
    for number in 0..5_000_u32 {
        // Text-like: half of it repeats.
        let line = format!("{number:08x}{:08x}", number.wrapping_mul(2_654_435_761));
        layer = layer.file(&format!("{}/{number}", number % 100), 0o644, line.repeat(640).as_bytes())?;
    }
    let image = ArchiveImage::new(Reference::parse("large")?, ImageConfig::default());
    let mut large = Vec::new();
    write_docker(&mut large, &image.layer(layer.compressed(LayerCompression::Gzip)))?;

    for (name, archive) in [("1 file, 1 MiB", &small), ("5,000 files, 50 MiB", &large)] {
        let start = Instant::now();
        store.load(&archive[..], &LoadOptions::default())?;
        let _ = writeln!(out, "load {name}: {:?}", start.elapsed());
    }
    for name in ["small", "docker.io/library/small:latest"] {
        store.resolve(name).await.map_err(|error| Error::NotFound { reference: error.to_string() })?;
        let start = Instant::now();
        for _ in 0..RESOLVES {
            let _ = std::hint::black_box(store.resolve(std::hint::black_box(name)).await);
        }
        let _ = writeln!(out, "resolve {name}, ready: {:?}", start.elapsed() / RESOLVES);
    }
    for name in ["small", "large"] {
        let start = Instant::now();
        store.remove(&Reference::parse(name)?, &[])?;
        let _ = writeln!(out, "remove {name}: {:?}", start.elapsed());
    }
    Ok(())
}
