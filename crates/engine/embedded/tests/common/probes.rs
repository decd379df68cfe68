//! The static programs of `wharf-engine-probes`.
#![allow(clippy::disallowed_macros, clippy::print_stderr, reason = "a skipped test says so")]

use std::path::{Path, PathBuf};

/// Where `cargo xtask test` says that they are, or where it has put them before; `None`, and a word
/// about it, where they are not.
pub fn find(name: &str) -> Option<PathBuf> {
    let said = std::env::var_os("WHARF_PROBES_DIR").map(PathBuf::from);
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let program = std::env::current_exe().ok();
    let target = program.as_deref().and_then(Path::parent).and_then(Path::parent).and_then(Path::parent);
    let built = target.map(|target| target.join("static").join(triple).join("release"));
    let found = [said, built].into_iter().flatten().map(|place| place.join(name)).find(|path| path.is_file());
    if found.is_none() {
        eprintln!("skipped: the probes are not built; `cargo xtask test --only unit` builds them");
    }
    found
}
