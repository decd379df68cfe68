//! Packs one static program as an image: `pack PROGRAM NAME ARCHIVE`.

use std::fs;
use std::io::{BufWriter, Error, Result};

use wharf_image::Reference;
use wharf_image::archive::{program_image, write_docker};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [program, name, archive] = arguments.as_slice() else {
        return Err(Error::other("usage: pack PROGRAM NAME ARCHIVE"));
    };
    let reference = Reference::parse(name).map_err(Error::other)?;
    let image = program_image(reference, &fs::read(program)?).map_err(Error::other)?;
    write_docker(BufWriter::new(fs::File::create(archive)?), &image).map_err(Error::other)
}
