//! Measures, beside the peers, in one run.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::setup;

#[derive(clap::Args)]
pub struct Options {
    #[command(subcommand)]
    bench: Bench,
    /// Print one JSON document on stdout, and nothing else there
    #[arg(long, global = true)]
    json: bool,
}

#[derive(clap::Subcommand)]
enum Bench {
    /// Container starts, beside crun and runc
    Engine,
    /// The API, beside moto
    Api,
    /// Decisions by IAM's policies
    Policy,
}

pub fn run(options: &Options) -> Result<()> {
    if matches!(options.bench, Bench::Policy) {
        return policy(options.json);
    }
    if !setup::is_root() {
        bail!("the benches run containers, and that needs root\nhint: run `sudo -E cargo xtask bench …`");
    }
    setup::packages()?;
    let busybox = setup::find("busybox").context("busybox is installed")?;
    let mut build = setup::cargo();
    setup::run(build.args([
        "build",
        "--release",
        "--quiet",
        "--locked",
        "--package",
        "wharf",
        "--package",
        "wharf-bench",
    ]))?;
    // A network namespace of its own: the machine's routes, rules and forwarding stay as they are.
    let mut bench = Command::new("unshare");
    bench.args(["--net", "--", "sh", "-c", "ip link set lo up && exec \"$@\"", "sh"]);
    bench.arg(setup::target().join("release/wharf-bench"));
    match options.bench {
        Bench::Policy => return policy(options.json),
        Bench::Engine => {
            setup::peers()?;
            bench.arg("engine").arg("--busybox").arg(busybox);
        }
        Bench::Api => {
            let moto = setup::moto()?;
            bench.arg("api").arg("--busybox").arg(busybox);
            bench.arg("--wharf").arg(setup::target().join("release/wharf")).arg("--moto").arg(moto);
        }
    }
    setup::run(bench.args(options.json.then_some("--json")))
}

/// Needs no root, no container and no peer.
fn policy(json: bool) -> Result<()> {
    let mut build = setup::cargo();
    setup::run(build.args(["build", "--release", "--quiet", "--locked", "--package", "wharf-bench"]))?;
    let mut bench = Command::new(setup::target().join("release/wharf-bench"));
    setup::run(bench.arg("policy").args(json.then_some("--json")))
}
