//! Builds the init of containers: a program of its own, without a library, that the engine carries
//! inside itself. See `init/main.rs`.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    let source = "init/main.rs";
    for path in ["build.rs", source] {
        #[allow(clippy::disallowed_macros, clippy::print_stdout, reason = "cargo is told so")]
        {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    let variable = |name: &str| env::var_os(name).unwrap_or_else(|| panic!("cargo sets {name}"));
    let program = PathBuf::from(variable("OUT_DIR")).join("init");
    let mut rustc = Command::new(variable("RUSTC"));
    rustc.args(["--edition", "2024", "--crate-type", "bin", "--crate-name", "init"]);
    rustc.arg("--target").arg(variable("TARGET"));
    rustc.args(["-C", "opt-level=s", "-C", "panic=abort", "-C", "strip=symbols", "-C", "debuginfo=0"]);
    // One segment at a fixed address, with no start-up code but its own.
    rustc.args(["-C", "relocation-model=static"]);
    if variable("TARGET").to_string_lossy().contains("musl") {
        rustc.args(["-C", "link-self-contained=no"]);
    }
    for argument in
        ["-nostartfiles", "-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none,-z,noseparate-code"]
    {
        rustc.arg("-C").arg(format!("link-arg={argument}"));
    }
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut argument = std::ffi::OsString::from("linker=");
        argument.push(linker);
        rustc.arg("-C").arg(argument);
    }
    let status = rustc.arg("-o").arg(&program).arg(source).status();
    assert!(status.is_ok_and(|status| status.success()), "the init of containers cannot be built");
}
