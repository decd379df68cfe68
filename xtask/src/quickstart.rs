//! From a fresh checkout to a task that answers: builds Wharf and the example, then hands over to
//! `wharf quickstart`, which does the main job with visible progress.

use std::process::Command;

use anyhow::{Result, bail};

use crate::setup;

#[derive(clap::Args)]
pub struct Options {
    /// Handed to `wharf quickstart`, such as `--keep`
    #[arg(last = true)]
    arguments: Vec<String>,
}

pub fn run(options: &Options) -> Result<()> {
    if !setup::is_root() {
        bail!(
            "Wharf runs containers itself, and that needs root\nhint: run `sudo -E cargo xtask quickstart`"
        );
    }
    anstream::eprintln!("Building Wharf (release; the first build takes some minutes) …");
    setup::run(setup::cargo().args(["build", "--release", "--locked", "--package", "wharf"]))?;
    anstream::eprintln!("Building examples/hello (static) …");
    let hello = setup::hello()?;
    let archive = setup::target().join("hello.tar");
    pack(&hello, &archive)?;
    anstream::eprintln!("Packed {} as the image hello:latest\n", archive.display());
    let mut wharf = Command::new(setup::target().join("release/wharf"));
    setup::run(wharf.arg("quickstart").arg(&archive).args(&options.arguments))
}

/// A `docker save` archive of one program.
fn pack(program: &std::path::Path, archive: &std::path::Path) -> Result<()> {
    let bytes = std::fs::read(program)?;
    let image = wharf_image::archive::program_image(wharf_image::Reference::parse("hello:latest")?, &bytes)?;
    wharf_image::archive::write_docker(std::fs::File::create(archive)?, &image)?;
    Ok(())
}
