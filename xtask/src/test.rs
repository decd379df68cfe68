//! Every test, in the order in which a failure is cheapest: the README's test command, and CI's.

use std::process::Command;
use std::time::Instant;

use anyhow::Result;

use crate::{generate, setup, tidy};

#[derive(clap::Args)]
pub struct Options {
    /// Run only this stage (may be repeated)
    #[arg(long, value_enum)]
    only: Vec<Stage>,
    /// Handed to pytest, such as `-k lifecycle`
    #[arg(last = true)]
    pytest: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Stage {
    /// rustfmt, clippy and the laws of the house
    Lint,
    /// Licences, sources and banned crates
    Deny,
    /// The generated crates are what the generator writes
    Generated,
    /// `cargo test` of the workspace
    Unit,
    /// Our codecs against botocore, for every operation
    Roundtrip,
    /// The AWS CLI and boto3 against a running Wharf
    E2e,
}

/// A stage, its name, and what it does.
type Step = (Stage, &'static str, fn(&Options) -> Result<()>);

const STAGES: [Step; 6] = [
    (Stage::Lint, "lint", lint),
    (Stage::Generated, "generated code", generated),
    (Stage::Deny, "licences and sources", deny),
    (Stage::Unit, "unit and engine tests", unit),
    (Stage::Roundtrip, "codecs against botocore", roundtrip),
    (Stage::E2e, "end to end", end_to_end),
];

#[expect(clippy::disallowed_methods, reason = "a developer is told how long each stage took")]
pub fn run(options: &Options) -> Result<()> {
    setup::packages()?;
    for (stage, name, test) in STAGES {
        if !options.only.is_empty() && !options.only.contains(&stage) {
            continue;
        }
        anstream::eprintln!("\n── {name}");
        let start = Instant::now();
        test(options)?;
        anstream::eprintln!("── {name}: {:.0} s", start.elapsed().as_secs_f64());
    }
    Ok(())
}

fn lint(_options: &Options) -> Result<()> {
    setup::run(setup::cargo().args(["fmt", "--all", "--check"]))?;
    setup::run(setup::cargo().args([
        "clippy",
        "--quiet",
        "--locked",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))?;
    tidy::run(&tidy::Options {})
}

fn generated(_options: &Options) -> Result<()> {
    generate::run(&generate::Options::check())
}

fn deny(_options: &Options) -> Result<()> {
    let mut deny = Command::new(setup::cargo_deny()?);
    deny.current_dir(setup::root()).args([
        "--locked",
        "--log-level",
        "error",
        "check",
        "bans",
        "licenses",
        "sources",
    ]);
    setup::run(&mut deny)
}

fn unit(_options: &Options) -> Result<()> {
    let probes = setup::probes()?;
    setup::run(setup::cargo().args(["test", "--locked", "--workspace"]).env("WHARF_PROBES_DIR", probes))?;
    // Every call of the engine fails once. The hooks are there with this feature alone.
    let faults = ["--package", "wharf-engine-embedded", "--features", "faults", "--test", "faults"];
    setup::run(setup::cargo().args(["test", "--locked"]).args(faults))
}

fn roundtrip(options: &Options) -> Result<()> {
    let python = setup::python()?;
    setup::run(setup::cargo().args([
        "build",
        "--quiet",
        "--locked",
        "--package",
        "wharf-wire",
        "--example",
        "roundtrip",
    ]))?;
    let mut pytest = Command::new(python.join("python"));
    pytest.args(["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/roundtrip"]).args(&options.pytest);
    pytest.env("WHARF_ROUNDTRIP_BIN", setup::target().join("debug/examples/roundtrip"));
    setup::run(pytest.current_dir(setup::root()))
}

/// In a network namespace of its own: the machine's routes, rules and forwarding stay as they are.
fn end_to_end(options: &Options) -> Result<()> {
    if !setup::is_root() {
        anstream::eprintln!("SKIPPED: the end-to-end tests run containers, and that needs root");
        anstream::eprintln!("hint: sudo -E cargo xtask test");
        return Ok(());
    }
    let python = setup::python()?;
    setup::run(setup::cargo().args(["build", "--quiet", "--locked", "--package", "wharf"]))?;
    let hello = setup::hello()?;
    let mut pytest = Command::new("unshare");
    pytest.args(["--net", "--", "sh", "-c", "ip link set lo up && exec \"$@\"", "sh"]);
    pytest.arg(python.join("python")).args(["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/e2e"]);
    pytest.args(&options.pytest);
    pytest.env("WHARF_BIN", setup::target().join("debug/wharf"));
    pytest.env("WHARF_HELLO_BIN", hello).env("WHARF_AWS", python.join("aws"));
    setup::run(pytest.current_dir(setup::root()))
}
