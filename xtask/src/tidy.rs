//! The laws of the house, checked over `cargo metadata` and the sources, not by memory.
//!
//! Each law is a function from the [`Workspace`] to a list of breaches; a breach names the file or
//! the package and says what to do instead. ARCHITECTURE.md states the same laws in prose.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cargo_metadata::{DependencyKind, MetadataCommand};

/// A hand-written file above this length holds more than one subject.
const FILE_LINES_MAX: usize = 700;

/// The only packages that may hold `unsafe` (law 6).
const UNSAFE_PACKAGES: [&str; 4] =
    ["wharf-engine-embedded", "wharf-engine-keeper", "wharf-network", "wharf-engine-probes"];

/// Words that belong to AWS and have no place in the engine (law 4).
const AWS_WORDS: [&str; 8] =
    ["aws", "ecs", "fargate", "ec2", "arn", "awslogs", "cloudwatch", "task definition"];

#[derive(clap::Args)]
pub struct Options {}

struct Package {
    name: String,
    directory: PathBuf,
    /// Workspace packages that it depends on, but for tests.
    uses: BTreeSet<String>,
    /// Everything else that it depends on, but for tests.
    external: BTreeSet<String>,
}

struct Source {
    /// From the root of the workspace.
    path: PathBuf,
    package: String,
    text: String,
    generated: bool,
}

pub struct Workspace {
    root: PathBuf,
    packages: BTreeMap<String, Package>,
    sources: Vec<Source>,
}

/// A law: what it says, and what breaks it.
type Law = (&'static str, fn(&Workspace) -> Vec<String>);

pub fn run(_options: &Options) -> Result<()> {
    let workspace = Workspace::read()?;
    let laws: [Law; 11] = [
        ("core and shape stand alone, and an API crate sees no codec", foundations),
        ("a service depends on no other service", services_are_strangers),
        ("plans are pure", plans_are_pure),
        ("the engine knows no AWS word", engine_is_a_leaf),
        ("stored records and API types never meet", records_are_not_api_types),
        ("unsafe stays in its rooms", unsafe_in_its_rooms),
        ("every service is wired in one place", services_are_wired),
        ("services do no file I/O of their own", services_do_no_file_io),
        ("every module says what it is for", modules_have_docs),
        ("a file has one subject", files_are_short),
        ("public text is about the project alone", no_machine_paths),
    ];
    let mut broken = 0;
    for (law, check) in laws {
        let breaches = check(&workspace);
        if breaches.is_empty() {
            anstream::println!("ok    {law}");
        } else {
            anstream::println!("FAIL  {law}");
        }
        for breach in &breaches {
            anstream::println!("      {breach}");
        }
        broken += breaches.len();
    }
    if broken > 0 {
        bail!("{broken} breaches of the house's laws");
    }
    Ok(())
}

impl Workspace {
    fn read() -> Result<Self> {
        let metadata = MetadataCommand::new()
            .other_options(["--locked".to_owned()])
            .exec()
            .context("cannot read cargo metadata")?;
        let root = metadata.workspace_root.clone().into_std_path_buf();
        let members: BTreeSet<_> =
            metadata.workspace_packages().iter().map(|package| package.name.to_string()).collect();
        let mut packages = BTreeMap::new();
        let mut sources = Vec::new();
        for package in metadata.workspace_packages() {
            let directory = package
                .manifest_path
                .parent()
                .context("a manifest has a folder")?
                .as_std_path()
                .to_path_buf();
            let normal = package
                .dependencies
                .iter()
                .filter(|dependency| dependency.kind != DependencyKind::Development);
            let (uses, external) =
                normal.map(|dependency| dependency.name.clone()).partition(|name| members.contains(name));
            let name = package.name.to_string();
            for folder in ["src", "tests", "examples", "benches"] {
                read_sources(&root, &directory.join(folder), &name, &mut sources)?;
            }
            packages.insert(name.clone(), Package { name, directory, uses, external });
        }
        Ok(Self { root, packages, sources })
    }

    /// Packages below a folder of the workspace.
    fn below(&self, folder: &str) -> impl Iterator<Item = &Package> {
        let prefix = self.root.join(folder);
        self.packages.values().filter(move |package| package.directory.starts_with(&prefix))
    }

    fn hand_written(&self) -> impl Iterator<Item = &Source> {
        self.sources.iter().filter(|source| !source.generated)
    }

    fn is_api(&self, package: &Package) -> bool {
        package.directory.starts_with(self.root.join("services")) && package.directory.ends_with("api")
    }
}

fn read_sources(root: &Path, folder: &Path, package: &str, into: &mut Vec<Source>) -> Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in folder.read_dir().with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            read_sources(root, &path, package, into)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs_err(&path)?;
            let generated = text.lines().take(5).any(|line| line.contains("@generated"));
            let path = path.strip_prefix(root).unwrap_or(&path).to_path_buf();
            into.push(Source { path, package: package.to_owned(), text, generated });
        }
    }
    Ok(())
}

fn fs_err(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The code of a source file: without comments, up to its unit tests.
fn code_lines(source: &Source) -> impl Iterator<Item = (usize, &str)> {
    source
        .text
        .lines()
        .enumerate()
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .map(|(index, line)| (index + 1, line.split("//").next().unwrap_or_default()))
        .filter(|(_, line)| !line.trim().is_empty())
}

/// Whether `word` stands in `text` with no letter or digit on either side; underscores and capitals
/// inside an identifier separate words too.
fn has_word(text: &str, word: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    lower.match_indices(word).any(|(start, _)| {
        let before = lower[..start].chars().next_back();
        let after = lower[start + word.len()..].chars().next();
        !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
    })
}

fn foundations(workspace: &Workspace) -> Vec<String> {
    let mut breaches = Vec::new();
    let mut allow = |name: &str, allowed: &[&str]| {
        let Some(package) = workspace.packages.get(name) else { return };
        for used in package.uses.iter().filter(|used| !allowed.contains(&used.as_str())) {
            breaches.push(format!("{name} depends on {used}"));
        }
        if package.external.contains("tokio") {
            breaches.push(format!("{name} depends on tokio"));
        }
    };
    allow("wharf-core", &[]);
    allow("wharf-shape", &["wharf-core"]);
    for api in workspace.below("services").filter(|package| workspace.is_api(package)) {
        allow(&api.name, &["wharf-core", "wharf-shape"]);
    }
    for package in workspace.packages.values() {
        let is_codec = package.name == "wharf-wire";
        for used in package.uses.iter().filter(|used| is_codec && used.ends_with("-api")) {
            breaches.push(format!("{} depends on {used}", package.name));
        }
    }
    breaches
}

fn services_are_strangers(workspace: &Workspace) -> Vec<String> {
    let services: Vec<_> = workspace.below("services").collect();
    let mut breaches = Vec::new();
    for service in services.iter().filter(|service| !workspace.is_api(service)) {
        let own_api = format!("{}-api", service.name);
        for used in &service.uses {
            if *used != own_api && services.iter().any(|other| other.name == *used) {
                breaches
                    .push(format!("{} depends on {used}: ask through a trait in contracts", service.name));
            }
        }
        if service.uses.contains("wharf-wire") {
            breaches.push(format!("{} depends on wharf-wire: a handler is domain logic only", service.name));
        }
    }
    for package in workspace.below("crates").filter(|package| package.name != "wharf") {
        for used in package.uses.iter().filter(|used| services.iter().any(|service| service.name == **used)) {
            breaches
                .push(format!("{} depends on {used}: only the binary names concrete parts", package.name));
        }
    }
    breaches
}

fn plans_are_pure(workspace: &Workspace) -> Vec<String> {
    const BANNED: [&str; 8] =
        ["tokio", ".await", "async fn", "Clock", "SystemTime", "_api::", "std::fs", "tracing::"];
    let in_plan = |source: &&Source| {
        source.path.components().any(|component| component.as_os_str() == "plan")
            || source.path.ends_with("plan.rs")
    };
    let mut breaches = Vec::new();
    for source in workspace.hand_written().filter(in_plan) {
        for (number, line) in code_lines(source) {
            for word in BANNED.iter().filter(|word| line.contains(**word)) {
                breaches.push(format!("{}:{number}: a plan has no {word}", source.path.display()));
            }
        }
    }
    breaches
}

fn engine_is_a_leaf(workspace: &Workspace) -> Vec<String> {
    let mut breaches = Vec::new();
    for package in workspace.below("crates/engine") {
        for used in
            package.uses.iter().filter(|used| !used.starts_with("wharf-engine") && *used != "wharf-core")
        {
            breaches.push(format!("{} depends on {used}", package.name));
        }
        for source in workspace.hand_written().filter(|source| source.package == package.name) {
            for (index, line) in source.text.lines().enumerate() {
                if line.contains("No AWS word") {
                    continue;
                }
                for word in AWS_WORDS.iter().filter(|word| has_word(line, word)) {
                    breaches.push(format!("{}:{}: says {word:?}", source.path.display(), index + 1));
                }
            }
        }
    }
    breaches
}

fn records_are_not_api_types(workspace: &Workspace) -> Vec<String> {
    let mut breaches = Vec::new();
    for source in workspace.hand_written().filter(|source| source.path.starts_with("services")) {
        let records = source.path.file_stem().is_some_and(|stem| stem == "records")
            || source.path.components().any(|component| component.as_os_str() == "records");
        for (number, line) in code_lines(source).filter(|_| records) {
            if line.contains("_api::") {
                breaches.push(format!("{}:{number}: a record holds an API type", source.path.display()));
            }
        }
    }
    for package in workspace.below("services").filter(|package| workspace.is_api(package)) {
        if package.external.contains("serde") {
            breaches.push(format!("{} depends on serde: API types are never stored", package.name));
        }
    }
    breaches
}

fn unsafe_in_its_rooms(workspace: &Workspace) -> Vec<String> {
    let mut breaches = Vec::new();
    for package in
        workspace.packages.values().filter(|package| !UNSAFE_PACKAGES.contains(&package.name.as_str()))
    {
        let roots: Vec<_> = workspace
            .sources
            .iter()
            .filter(|source| source.package == package.name)
            .filter(|source| source.path.ends_with("src/lib.rs") || source.path.ends_with("src/main.rs"))
            .collect();
        for root in roots.iter().filter(|root| !root.text.contains("#![forbid(unsafe_code)]")) {
            breaches.push(format!("{}: lacks #![forbid(unsafe_code)]", root.path.display()));
        }
    }
    for source in workspace.hand_written().filter(|source| UNSAFE_PACKAGES.contains(&source.package.as_str()))
    {
        let lines: Vec<_> = source.text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let opens = code.contains("unsafe {") || code.contains("unsafe impl");
            let justified =
                lines[index.saturating_sub(12)..=index].iter().any(|line| line.contains("SAFETY"));
            if opens && !justified {
                breaches.push(format!(
                    "{}:{}: unsafe without a SAFETY comment",
                    source.path.display(),
                    index + 1
                ));
            }
        }
    }
    breaches
}

fn services_are_wired(workspace: &Workspace) -> Vec<String> {
    let path = Path::new("crates/wharf/src/services.rs");
    let Some(wiring) = workspace.sources.iter().find(|source| source.path == path) else {
        return vec![format!("{} is missing", path.display())];
    };
    workspace
        .below("services")
        .filter(|package| !workspace.is_api(package))
        .filter(|service| !wiring.text.contains(&service.name.replace('-', "_")))
        .map(|service| format!("{} is not in {}", service.name, path.display()))
        .collect()
}

fn services_do_no_file_io(workspace: &Workspace) -> Vec<String> {
    let mut breaches = Vec::new();
    for source in workspace.hand_written().filter(|source| source.path.starts_with("services")) {
        if source.path.components().any(|component| component.as_os_str() == "tests") {
            continue;
        }
        for (number, line) in code_lines(source) {
            if line.contains("std::fs") || line.contains("tokio::fs") {
                breaches
                    .push(format!("{}:{number}: a service keeps its data in state", source.path.display()));
            }
        }
    }
    breaches
}

fn modules_have_docs(workspace: &Workspace) -> Vec<String> {
    workspace
        .sources
        .iter()
        .filter(|source| !source.text.lines().take(6).any(|line| line.starts_with("//!")))
        .map(|source| format!("{}: starts without a //! line", source.path.display()))
        .collect()
}

fn files_are_short(workspace: &Workspace) -> Vec<String> {
    workspace
        .hand_written()
        .map(|source| (source, source.text.lines().count()))
        .filter(|(_, lines)| *lines > FILE_LINES_MAX)
        .map(|(source, lines)| {
            format!("{}: {lines} lines, more than {FILE_LINES_MAX}", source.path.display())
        })
        .collect()
}

fn no_machine_paths(workspace: &Workspace) -> Vec<String> {
    // Split, so that this file does not name what it looks for.
    let banned = [concat!("/wo", "rk/main"), concat!("/wo", "rk/shared"), concat!("/ro", "ot/.")];
    let mut breaches = Vec::new();
    for source in &workspace.sources {
        for (index, line) in source.text.lines().enumerate() {
            if banned.iter().any(|word| line.contains(word)) {
                breaches.push(format!("{}:{}: a path of one machine", source.path.display(), index + 1));
            }
        }
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(path: &str, package: &str, text: &str) -> Workspace {
        let source =
            Source { path: path.into(), package: package.into(), text: text.into(), generated: false };
        Workspace { root: PathBuf::from("/house"), packages: BTreeMap::new(), sources: vec![source] }
    }

    fn with_package(mut workspace: Workspace, name: &str, folder: &str, uses: &[&str]) -> Workspace {
        workspace.packages.insert(
            name.to_owned(),
            Package {
                name: name.to_owned(),
                directory: workspace.root.join(folder),
                uses: uses.iter().map(|name| (*name).to_owned()).collect(),
                external: BTreeSet::new(),
            },
        );
        workspace
    }

    #[test]
    fn a_plan_that_waits_is_a_breach() {
        let breaches =
            plans_are_pure(&workspace("services/x/src/plan/task.rs", "wharf-x", "//! p\nx.await\n"));
        assert_eq!(breaches, ["services/x/src/plan/task.rs:2: a plan has no .await"]);
        assert!(plans_are_pure(&workspace("services/x/src/reconcile.rs", "wharf-x", "x.await")).is_empty());
    }

    #[test]
    fn a_service_that_knows_another_is_a_breach() {
        let mut house = workspace("a.rs", "wharf-ecs", "");
        house = with_package(house, "wharf-ecs", "services/ecs", &["wharf-ecs-api", "wharf-logs"]);
        house = with_package(house, "wharf-ecs-api", "services/ecs/api", &["wharf-core", "wharf-wire"]);
        house = with_package(house, "wharf-logs", "services/logs", &[]);
        assert_eq!(services_are_strangers(&house).len(), 1);
        assert_eq!(foundations(&house), ["wharf-ecs-api depends on wharf-wire"]);
    }

    #[test]
    fn the_engine_may_not_say_task_arn_but_may_say_warning() {
        let house = with_package(
            workspace("crates/engine/src/a.rs", "wharf-engine", "//! warning\nlet task_arn = 1;\n"),
            "wharf-engine",
            "crates/engine",
            &["wharf-core", "wharf-state"],
        );
        assert_eq!(
            engine_is_a_leaf(&house),
            ["wharf-engine depends on wharf-state", "crates/engine/src/a.rs:2: says \"arn\""]
        );
    }

    #[test]
    fn unsafe_needs_a_reason_and_a_room() {
        let text = "//! x\n#![forbid(unsafe_code)]\n";
        let house = with_package(workspace("crates/a/src/lib.rs", "a", text), "a", "crates/a", &[]);
        assert!(unsafe_in_its_rooms(&house).is_empty());
        let house = with_package(workspace("crates/a/src/lib.rs", "a", "//! x"), "a", "crates/a", &[]);
        assert_eq!(unsafe_in_its_rooms(&house).len(), 1);
        let opens = "//! x\nfn f() {\n    unsafe { g() }\n}\n";
        assert_eq!(
            unsafe_in_its_rooms(&workspace("crates/network/src/n.rs", "wharf-network", opens)).len(),
            1
        );
    }
}
