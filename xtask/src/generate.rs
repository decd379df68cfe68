//! Writes the generated API crates, `services/*/api/src`, from the service models of a pinned
//! release of botocore.
//!
//! `services/<name>/operations.toml` says which operations are wanted and what is particular to
//! the service; `services/<name>/model-patch.json` corrects the model. With `--check`, nothing is
//! written and any difference is an error.

mod emit;
mod model;
mod names;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;

use emit::Emitter;
pub use emit::default_trait_name;
use model::{Model, OperationModel, Wheel};

#[derive(clap::Args)]
pub struct Options {
    /// Write nothing; fail when regenerating would change a file
    #[arg(long)]
    check: bool,
    /// Only these services
    services: Vec<String>,
}

impl Options {
    /// All services, compared only.
    pub fn check() -> Self {
        Self { check: true, services: Vec::new() }
    }
}

/// `operations.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Settings {
    operations: Wanted,
    /// The service's name in botocore, where it is not that of the folder.
    botocore: Option<String>,
    /// The name of the generated trait, where it is not the folder's in Pascal case.
    r#trait: Option<String>,
    /// What stands before the colon of the IAM actions, where it is not the folder's name.
    action_prefix: Option<String>,
    /// IAM actions that are not named after their operation, by operation.
    #[serde(default)]
    actions: BTreeMap<String, String>,
    validation: ValidationSettings,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Wanted {
    /// `"all"`.
    All(String),
    These(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ValidationSettings {
    /// The error code of an input that breaks a constraint.
    code: String,
    form: Form,
    /// Operations with a code of their own.
    #[serde(default)]
    operations: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Form {
    Constraint,
    Ec2,
}

impl Settings {
    fn trait_name(&self, service: &str) -> String {
        self.r#trait.clone().unwrap_or_else(|| default_trait_name(service))
    }

    fn action_prefix<'a>(&'a self, service: &'a str) -> &'a str {
        self.action_prefix.as_deref().unwrap_or(service)
    }

    /// The wanted operations, sorted by name.
    fn wanted<'a>(&self, model: &'a Model) -> anyhow::Result<Vec<(&'a str, &'a OperationModel)>> {
        for name in self.actions.keys().chain(self.validation.operations.keys()) {
            ensure!(
                model.operations.contains_key(name),
                "operations.toml names {name}, which the model has not"
            );
        }
        let named = |(name, operation): (&'a String, &'a OperationModel)| (name.as_str(), operation);
        match &self.operations {
            Wanted::All(all) if all == "all" => Ok(model.operations.iter().map(named).collect()),
            Wanted::All(other) => bail!("operations is \"all\" or a list, not {other:?}"),
            Wanted::These(names) => {
                for name in names {
                    ensure!(model.operations.contains_key(name), "the model has no operation {name}");
                }
                Ok(model.operations.iter().filter(|(name, _)| names.contains(name)).map(named).collect())
            }
        }
    }
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    let root = workspace_root()?;
    let wheel = Wheel::fetch(&root)?;
    let services = if options.services.is_empty() { all_services(&root)? } else { options.services.clone() };
    let mut differing = Vec::new();
    for service in &services {
        let (header, changed) = generate(&root, &wheel, service, options.check)
            .with_context(|| format!("cannot generate {service}"))?;
        anstream::eprintln!("{header}");
        differing.extend(changed);
    }
    if options.check && !differing.is_empty() {
        let files: Vec<String> = differing.iter().map(|path| path.display().to_string()).collect();
        bail!("not what the generator writes: {}\nhint: run `cargo xtask generate`", files.join(", "));
    }
    Ok(())
}

/// Generates one service's API crate from the pinned release.
pub fn one(root: &Path, service: &str) -> anyhow::Result<()> {
    let (header, _) = generate(root, &Wheel::fetch(root)?, service, false)?;
    anstream::eprintln!("{header}");
    Ok(())
}

pub fn workspace_root() -> anyhow::Result<PathBuf> {
    let metadata = cargo_metadata::MetadataCommand::new().no_deps().exec()?;
    Ok(metadata.workspace_root.into_std_path_buf())
}

/// One line about the service, and the files that differed from what is generated.
fn generate(
    root: &Path,
    wheel: &Wheel,
    service: &str,
    check: bool,
) -> anyhow::Result<(String, Vec<PathBuf>)> {
    let folder = root.join("services").join(service);
    let path = folder.join("operations.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let settings: Settings = toml::from_str(&text).with_context(|| format!("in {}", path.display()))?;
    let model =
        wheel.model(settings.botocore.as_deref().unwrap_or(service), &folder.join("model-patch.json"))?;
    let sources = Emitter::new(service, &model, &settings, &wheel.version)?.sources()?;
    let api = folder.join("api/src");
    let mut changed = Vec::new();
    for (name, source) in &sources {
        let path = api.join(name);
        let formatted =
            format_source(root, source).with_context(|| format!("rustfmt refuses {}", path.display()))?;
        if std::fs::read(&path).ok().as_deref() != Some(&*formatted) {
            if !check {
                std::fs::create_dir_all(&api)?;
                std::fs::write(&path, &formatted)?;
            }
            changed.push(path);
        }
    }
    for entry in std::fs::read_dir(&api)? {
        let entry = entry?;
        if !sources.contains_key(&*entry.file_name().to_string_lossy()) {
            changed.push(entry.path());
            if !check {
                std::fs::remove_file(entry.path())?;
            }
        }
    }
    let line =
        format!("{service}: {} operations, {} files changed", settings.wanted(&model)?.len(), changed.len());
    Ok((line, changed))
}

fn format_source(root: &Path, source: &str) -> anyhow::Result<Vec<u8>> {
    let mut rustfmt = Command::new("rustfmt")
        .args(["--edition", "2024", "--emit", "stdout", "--config-path"])
        .arg(root.join("rustfmt.toml"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run rustfmt")?;
    let mut stdin = rustfmt.stdin.take().context("rustfmt has no stdin")?;
    let source = source.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(source.as_bytes()));
    let output = rustfmt.wait_with_output()?;
    writer.join().map_err(|_| anyhow::anyhow!("the writer to rustfmt panicked"))??;
    ensure!(output.status.success(), "rustfmt failed");
    Ok(output.stdout)
}

fn all_services(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut services = Vec::new();
    for entry in std::fs::read_dir(root.join("services"))? {
        let entry = entry?;
        if entry.path().join("operations.toml").exists() {
            services.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    services.sort_unstable();
    Ok(services)
}
