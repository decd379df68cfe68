//! Which stages a target needs, and in which order they can be built.
//!
//! Stages that nothing needs are not built. Stages in one [`Plan::waves`] entry need nothing of each
//! other and may be built side by side.

use std::collections::BTreeSet;

use crate::error::{Error, Problem};
use crate::expand::Expander;
use crate::instruction::{Instruction, MountKind};
use crate::parse::{Dockerfile, Stage};

/// What a stage or a `--from` stands on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Base {
    /// An empty root.
    Scratch,
    /// An earlier stage, by its index.
    Stage(usize),
    /// An image's reference.
    Image(String),
}

/// What has to be built for a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub target: usize,
    /// For each stage of the file: its base, its platform, and what it takes files from.
    pub stages: Vec<Resolved>,
    /// The needed stages, those first that need nothing of the others.
    pub waves: Vec<Vec<usize>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    pub base: Base,
    pub platform: Option<String>,
    /// Of `COPY --from`, `RUN --mount=from=`.
    pub from: BTreeSet<Base>,
}

impl Plan {
    /// Plans the build of `target`: a stage's name or number; `None`: the last stage. `arguments`
    /// are those of the command line and of the platform, for `FROM`.
    ///
    /// # Errors
    /// A `FROM` that expands to nothing, a target or a stage that is not there, each with its line.
    pub fn new(
        dockerfile: &Dockerfile,
        target: Option<&str>,
        arguments: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Error> {
        let globals = global_arguments(dockerfile, arguments)?;
        let lookup =
            |name: &str| globals.iter().rev().find(|(known, _)| known == name).map(|(_, v)| v.clone());
        let lookup =
            |name: &str| lookup(name).or_else(|| platform_argument(name).then(|| arguments(name)).flatten());
        let expander = Expander::new(dockerfile.directives.escape, &lookup);
        let mut stages = Vec::with_capacity(dockerfile.stages.len());
        for (index, stage) in dockerfile.stages.iter().enumerate() {
            stages.push(resolve(&dockerfile.stages[..index], stage, &expander)?);
        }
        let target = match target {
            None => stages.len() - 1,
            Some(name) => find(&dockerfile.stages, name).ok_or_else(|| {
                let line = dockerfile.stages.last().map_or(1, |stage| stage.line);
                Problem::value("FROM", format!("target stage {name:?} could not be found")).at(line)
            })?,
        };
        let waves = waves(&stages, target);
        Ok(Self { target, stages, waves })
    }
}

/// The arguments that are there without an `ARG`.
fn platform_argument(name: &str) -> bool {
    matches!(
        name,
        "BUILDPLATFORM"
            | "BUILDOS"
            | "BUILDARCH"
            | "BUILDVARIANT"
            | "TARGETPLATFORM"
            | "TARGETOS"
            | "TARGETARCH"
            | "TARGETVARIANT"
            | "TARGETSTAGE"
    )
}

/// The global arguments with their values: the command line's, else the default, expanded by those
/// before it.
///
/// # Errors
/// A default that cannot be expanded.
pub fn global_arguments(
    dockerfile: &Dockerfile,
    arguments: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<(String, String)>, Error> {
    let mut globals: Vec<(String, String)> = Vec::new();
    for located in &dockerfile.global_args {
        for arg in &located.value {
            let lookup = |name: &str| {
                let known = globals.iter().rev().find(|(known, _)| known == name);
                known
                    .map(|(_, value)| value.clone())
                    .or_else(|| platform_argument(name).then(|| arguments(name)).flatten())
            };
            let expander = Expander::new(dockerfile.directives.escape, &lookup);
            let value = match (arguments(&arg.name), &arg.default) {
                (Some(given), _) => Some(given),
                (None, Some(default)) => Some(
                    expander
                        .word(default)
                        .map_err(|error| Problem::value("ARG", error.to_string()).at(located.first))?,
                ),
                (None, None) => None,
            };
            if let Some(value) = value {
                globals.push((arg.name.clone(), value));
            }
        }
    }
    Ok(globals)
}

fn resolve(earlier: &[Stage], stage: &Stage, expander: &Expander<'_>) -> Result<Resolved, Error> {
    let expand = |word: &str| {
        expander.word(word).map_err(|error| Problem::value("FROM", error.to_string()).at(stage.line))
    };
    let name = expand(&stage.base)?;
    if name.trim().is_empty() {
        let problem = format!("base name ({}) should not be blank", stage.base);
        return Err(Problem::value("FROM", problem).at(stage.line));
    }
    let platform = stage.platform.as_deref().map(expand).transpose()?.filter(|text| !text.is_empty());
    let mut from = BTreeSet::new();
    for located in &stage.instructions {
        for name in names_of(&located.value) {
            from.insert(other_base(earlier, name).map_err(|problem| problem.at(located.first))?);
        }
    }
    // A number is no base: `FROM 0` is an image that is called 0.
    let base = match named(earlier, &name) {
        Some(index) => Base::Stage(index),
        None if name == "scratch" => Base::Scratch,
        None => Base::Image(name),
    };
    Ok(Resolved { base, platform, from })
}

fn names_of(instruction: &Instruction) -> Vec<&str> {
    match instruction {
        Instruction::Copy(copy) => copy.from.as_deref().into_iter().collect(),
        Instruction::Run(run) => run
            .mounts
            .iter()
            .filter_map(|mount| match &mount.kind {
                MountKind::Bind { from, .. } | MountKind::Cache { from, .. } => from.as_deref(),
                MountKind::Tmpfs { .. } | MountKind::Secret { .. } | MountKind::Ssh { .. } => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// What a `--from` of a stage means that has `earlier` stages before it.
fn other_base(earlier: &[Stage], name: &str) -> Result<Base, Problem> {
    if let Some(index) = find(earlier, name) {
        return Ok(Base::Stage(index));
    }
    if name == "scratch" {
        return Ok(Base::Scratch);
    }
    match name.parse::<usize>() {
        Ok(_) => Err(Problem::value(
            "COPY",
            format!("invalid from flag value {name}: there is no such stage before"),
        )),
        Err(_) => Ok(Base::Image(name.to_owned())),
    }
}

fn named(stages: &[Stage], name: &str) -> Option<usize> {
    let name = name.to_ascii_lowercase();
    stages.iter().position(|stage| stage.name.as_ref() == Some(&name))
}

fn find(stages: &[Stage], name: &str) -> Option<usize> {
    named(stages, name).or_else(|| name.parse().ok().filter(|index| *index < stages.len()))
}

/// A stage needs earlier stages only, so one walk from the target down finds all that is needed, and
/// one walk up gives each its wave.
fn waves(stages: &[Resolved], target: usize) -> Vec<Vec<usize>> {
    let needs = |index: usize| {
        let resolved = &stages[index];
        std::iter::once(&resolved.base).chain(&resolved.from).filter_map(|base| match base {
            Base::Stage(stage) => Some(*stage),
            Base::Scratch | Base::Image(_) => None,
        })
    };
    let mut needed = vec![false; target + 1];
    needed[target] = true;
    for index in (0..=target).rev() {
        if needed[index] {
            for stage in needs(index) {
                needed[stage] = true;
            }
        }
    }
    let mut wave_of = vec![0; target + 1];
    let mut waves: Vec<Vec<usize>> = Vec::new();
    for index in (0..=target).filter(|index| needed[*index]) {
        wave_of[index] = needs(index).map(|stage| wave_of[stage] + 1).max().unwrap_or(0);
        if waves.len() <= wave_of[index] {
            waves.resize(wave_of[index] + 1, Vec::new());
        }
        waves[wave_of[index]].push(index);
    }
    waves
}
