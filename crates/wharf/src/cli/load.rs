//! `wharf load`: an archive becomes an image.

use std::path::PathBuf;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::DataDir;
use crate::admin::client::Client;
use crate::admin::messages::ImageSummary;
use crate::failure::{Context as _, Failure, Result};
use crate::layout::Layout;
use crate::output;

/// Put an image from an OCI or `docker save` archive into the store
#[derive(Args)]
#[command(after_help = "Examples:\n  wharf load hello.tar\n  docker save web | sudo wharf load /dev/stdin")]
pub struct Options {
    /// The archive: a tar file, plain or compressed with gzip or zstd
    archive: PathBuf,
    #[command(flatten)]
    data: DataDir,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(options: &Options) -> Result<()> {
    let layout = options.data.layout()?;
    let loaded = super::block_on(load(&layout, &options.archive))?;
    if options.json {
        output::json(&loaded);
    } else {
        for image in &loaded {
            output::line(format!(
                "{}  {}  {}",
                image.reference,
                image.digest,
                output::bytes(image.size_bytes)
            ));
        }
    }
    Ok(())
}

/// Sends an archive to the server, with a progress bar on a terminal.
pub async fn load(layout: &Layout, archive: &PathBuf) -> Result<Vec<ImageSummary>> {
    let file = tokio::fs::File::open(archive)
        .await
        .context(|| format!("cannot open the archive {}", archive.display()))?;
    let metadata =
        file.metadata().await.context(|| format!("cannot read the archive {}", archive.display()))?;
    if metadata.is_dir() {
        return Err(Failure::new(format!("{} is a directory, not an archive", archive.display()))
            .hint("pack it: `tar -C DIR -cf image.tar .` for an OCI layout, or use `docker save`"));
    }
    let bar = ProgressBar::new(metadata.len()).with_style(
        ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {bytes_per_sec}")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let progress = bar.clone();
    let loaded = Client::new(layout).post_file("/images", file, move |count| progress.inc(count)).await;
    bar.finish_and_clear();
    loaded.map_err(|failure| {
        let wrapped = Failure::new(format!("cannot load {}: {failure}", archive.display()));
        match failure.hint_text() {
            Some(hint) => wrapped.hint(hint),
            None => wrapped,
        }
    })
}
