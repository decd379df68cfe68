//! `wharf images`: what is in the store.

use clap::Args;

use super::DataDir;
use crate::admin::client::Client;
use crate::admin::messages::ImageSummary;
use crate::failure::Result;
use crate::output;

/// List the images in the store
#[derive(Args)]
#[command(after_help = "Examples:\n  wharf images\n  wharf images --json")]
pub struct Options {
    #[command(flatten)]
    data: DataDir,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(options: &Options) -> Result<()> {
    let layout = options.data.layout()?;
    let images: Vec<ImageSummary> = super::block_on(async { Client::new(&layout).get("/images").await })?;
    if options.json {
        output::json(&images);
        return Ok(());
    }
    let rows: Vec<_> = images
        .iter()
        .map(|image| {
            let digest = image.digest.trim_start_matches("sha256:");
            vec![image.reference.clone(), digest.chars().take(12).collect(), output::bytes(image.size_bytes)]
        })
        .collect();
    output::table(&["IMAGE", "DIGEST", "SIZE"], &rows);
    if rows.is_empty() {
        output::note("The store is empty. Put an image in with `wharf load ARCHIVE`.");
    }
    Ok(())
}
