//! The image of the tasks that are started: a static busybox and nothing else.

use std::path::Path;

use anyhow::Result;
use wharf_image::archive::{ArchiveImage, Layer, write_docker};
use wharf_image::{ImageConfig, Reference};

pub fn write(archive: &Path, busybox: &Path) -> Result<()> {
    let layer = Layer::new()
        .file("bin/busybox", 0o755, &std::fs::read(busybox)?)?
        .symlink("bin/sleep", "busybox")?
        .symlink("bin/sh", "busybox")?;
    let image = ArchiveImage::new(
        Reference::parse("busybox:latest")?,
        ImageConfig { env: vec!["PATH=/bin".to_owned()], ..ImageConfig::default() },
    )
    .layer(layer);
    write_docker(&mut std::fs::File::create(archive)?, &image)?;
    Ok(())
}
