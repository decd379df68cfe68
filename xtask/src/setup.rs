//! What the tests need beside the Rust toolchain, installed where it is missing: Debian packages, a
//! Python environment with the clients that users have, and `cargo-deny`.
//!
//! Everything lands under `target/`, but for Debian's packages, which need root and are asked for by
//! name when it is missing.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

const CARGO_DENY_VERSION: &str = "0.20.2";

/// (program that shows the package is there, Debian package)
const PACKAGES: [(&str, &str); 4] =
    [("ip", "iproute2"), ("nft", "nftables"), ("busybox", "busybox-static"), ("unshare", "util-linux")];
/// The peers of `cargo xtask bench engine`.
const PEERS: [(&str, &str); 2] = [("crun", "crun"), ("runc", "runc")];

/// The root of the checkout.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is in a folder of the workspace")
}

/// Where everything that is built or fetched lands.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Runs a command that says nothing of interest on stdout: what it does say goes to stderr, because
/// stdout may be a document.
fn run_beside(command: &mut Command) -> Result<()> {
    run(command.stdout(std::io::stderr()))
}

/// Runs a command, and fails when it fails.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {}", name_of(command)))?;
    if !status.success() {
        bail!("{} failed: {status}", name_of(command));
    }
    Ok(())
}

fn name_of(command: &Command) -> String {
    let arguments = command.get_args().take(4).map(|argument| argument.to_string_lossy().into_owned());
    let name = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    std::iter::once(name.to_string_lossy().into_owned()).chain(arguments).collect::<Vec<_>>().join(" ")
}

/// `cargo`, in the root of the checkout.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

pub fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.starts_with(b"0\n"))
}

/// Where a program is.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/sbin".into(), "/usr/sbin".into(), "/bin".into()])
        .map(|folder: PathBuf| folder.join(program))
        .find(|path| path.is_file())
}

/// Debian's packages for the tests.
pub fn packages() -> Result<()> {
    install(&PACKAGES)
}

/// Debian's packages for the benches.
pub fn peers() -> Result<()> {
    install(&PEERS)
}

fn install(wanted: &[(&str, &'static str)]) -> Result<()> {
    let missing: Vec<_> =
        wanted.iter().filter(|(program, _)| find(program).is_none()).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !is_root() || find("apt-get").is_none() {
        bail!(
            "missing: {}\nhint: install them, on Debian with `sudo apt-get install {}`",
            missing.join(", "),
            missing.join(" ")
        );
    }
    let mut update = Command::new("apt-get");
    run_beside(update.args(["update", "-qq"]))?;
    let mut apt = Command::new("apt-get");
    run_beside(
        apt.args(["install", "-y", "-qq", "--no-install-recommends"])
            .args(&missing)
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )
}

/// The Python environment of the tests; returns its `bin` folder.
pub fn python() -> Result<PathBuf> {
    environment("venv", "tests/requirements.txt")
}

/// `moto_server`, the peer of the API bench.
pub fn moto() -> Result<PathBuf> {
    Ok(environment("venv-moto", "benches/requirements.txt")?.join("moto_server"))
}

/// A Python environment; made again when its list of requirements changes.
fn environment(name: &str, requirements: &str) -> Result<PathBuf> {
    let environment = target().join(name);
    let bin = environment.join("bin");
    let requirements = root().join(requirements);
    let wanted = std::fs::read_to_string(&requirements)
        .with_context(|| format!("cannot read {}", requirements.display()))?;
    let stamp = environment.join("requirements.txt");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(bin);
    }
    run_beside(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))
        .context("hint: on Debian, `apt-get install python3-venv`")?;
    let mut pip = Command::new(bin.join("pip"));
    run_beside(pip.args(["install", "--quiet", "--disable-pip-version-check", "-r"]).arg(&requirements))?;
    std::fs::write(&stamp, wanted).context("cannot write the stamp of the Python environment")?;
    Ok(bin)
}

/// `cargo-deny`, of one version, from crates.io.
pub fn cargo_deny() -> Result<PathBuf> {
    let tools = target().join("tools");
    let program = tools.join("bin/cargo-deny");
    if !program.is_file() {
        let mut install = cargo();
        install.args([
            "install",
            "--quiet",
            "--debug",
            "--locked",
            "cargo-deny",
            "--version",
            CARGO_DENY_VERSION,
            "--root",
        ]);
        run(install.arg(&tools).arg("--target-dir").arg(tools.join("build")))?;
        // Its build tree is large, and not needed again.
        let _ = std::fs::remove_dir_all(tools.join("build"));
    }
    Ok(program)
}

/// Builds the static `hello` of the examples; returns its path.
pub fn hello() -> Result<PathBuf> {
    Ok(build_static("wharf-example-hello")?.join("wharf-example-hello"))
}

/// Builds the static programs that look at containers from inside; returns their directory.
pub fn probes() -> Result<PathBuf> {
    build_static("wharf-engine-probes")
}

/// Builds a package that runs where there are no libraries; returns where its programs are.
fn build_static(package: &str) -> Result<PathBuf> {
    let folder = target().join("static");
    let mut build = cargo();
    build.args(["build", "--quiet", "--release", "--package", package, "--target", TARGET, "--target-dir"]);
    run(build.arg(&folder).env("RUSTFLAGS", "-C target-feature=+crt-static"))?;
    Ok(folder.join(TARGET).join("release"))
}

/// Static linking needs an explicit target, or build scripts and macros would be linked statically too.
#[cfg(target_arch = "x86_64")]
const TARGET: &str = "x86_64-unknown-linux-gnu";
#[cfg(target_arch = "aarch64")]
const TARGET: &str = "aarch64-unknown-linux-gnu";
