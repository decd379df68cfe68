//! The instructions, their words unexpanded.
//!
//! A `String` that is called a *word* here may hold quotes and variables: it goes through
//! [`crate::Expander`] when its stage is built. Which fields are words is said at each.

use std::time::Duration;

/// One instruction of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instruction {
    Add(Add),
    /// One or more arguments with their defaults.
    Arg(Vec<Arg>),
    Cmd(Command),
    Copy(Copy),
    Entrypoint(Command),
    Env(Vec<Pair>),
    /// Words, each of which may expand to several ports: `80`, `8000-8010/udp`.
    Expose(String),
    Healthcheck(HealthCheck),
    Label(Vec<Pair>),
    Maintainer(String),
    /// The instruction that a build upon this image carries out, verbatim.
    Onbuild(String),
    Run(Run),
    Shell(Vec<String>),
    /// A word.
    Stopsignal(String),
    /// A word.
    User(String),
    /// Words.
    Volume(Vec<String>),
    /// A word.
    Workdir(String),
}

/// A name and a word. In `LABEL` the name is a word too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    pub name: String,
    pub value: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arg {
    pub name: String,
    /// A word.
    pub default: Option<String>,
}

/// The two forms of `CMD`, `ENTRYPOINT`, `RUN` and of a health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `["program", "argument"]`, taken as it stands.
    Exec(Vec<String>),
    /// A line for the stage's shell, taken as it stands: the shell expands it.
    Shell(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HereDocument {
    pub name: String,
    pub content: String,
    /// The name stood without quotes: variables in the content are expanded.
    pub expand: bool,
}

/// Where `COPY` and `ADD` take something from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A word: a path with wildcards, or, for `ADD`, a URL.
    Path(String),
    /// A file of this name and content.
    Document(HereDocument),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// A stage's name or number, or an image; `None`: the build context. No word.
    pub from: Option<String>,
    pub sources: Vec<Source>,
    /// A word.
    pub destination: String,
    /// A word: `user`, `uid`, with `:group` or `:gid`.
    pub chown: Option<String>,
    /// A word: octal.
    pub chmod: Option<String>,
    /// A layer of its own, that depends on nothing below it.
    pub link: bool,
    /// Keep the directories of the source's path (up to a `/./` in it).
    pub parents: bool,
    /// Words: patterns of what stays behind.
    pub exclude: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Add {
    pub sources: Vec<Source>,
    /// A word.
    pub destination: String,
    /// A word.
    pub chown: Option<String>,
    /// A word.
    pub chmod: Option<String>,
    pub link: bool,
    /// A word: `sha256:…` of what a URL gives.
    pub checksum: Option<String>,
    pub keep_git_dir: bool,
    /// Words.
    pub exclude: Vec<String>,
    /// Whether archives are unpacked; `None`: local ones are, fetched ones are not.
    pub unpack: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub command: Command,
    /// For the shell form: `RUN <<EOF` runs the document, `RUN cat <<EOF` gives it to `cat`.
    pub documents: Vec<HereDocument>,
    pub mounts: Vec<Mount>,
    pub network: Network,
    pub insecure: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    #[default]
    Default,
    None,
    Host,
}

/// `RUN --mount=…`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub kind: MountKind,
    /// A word. Empty only for secrets that go to a variable and for ssh, which have defaults.
    pub target: String,
    pub readonly: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountKind {
    Bind {
        /// A stage or an image; `None`: the build context.
        from: Option<String>,
        /// A word.
        source: String,
    },
    Cache {
        /// A word. Empty: the target.
        id: String,
        from: Option<String>,
        source: String,
        sharing: Sharing,
        mode: u32,
        uid: u32,
        gid: u32,
    },
    Tmpfs {
        size_bytes: Option<u64>,
    },
    Secret {
        /// A word. Empty: the last name of the target.
        id: String,
        required: bool,
        /// The variable that it becomes.
        env: Option<String>,
        mode: u32,
        uid: u32,
        gid: u32,
    },
    Ssh {
        id: String,
        required: bool,
        mode: u32,
        uid: u32,
        gid: u32,
    },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    #[default]
    Shared,
    Private,
    Locked,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealthCheck {
    /// The base image's check is off.
    None,
    Check(Health),
}

/// A check; what is `None` has Docker's default (30 s, 30 s, 0 s, 5 s, 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    pub command: Command,
    pub interval: Option<Duration>,
    pub timeout: Option<Duration>,
    pub start_period: Option<Duration>,
    pub start_interval: Option<Duration>,
    pub retries: Option<u32>,
}

impl Instruction {
    /// As it is written in a Dockerfile.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Add(_) => "ADD",
            Self::Arg(_) => "ARG",
            Self::Cmd(_) => "CMD",
            Self::Copy(_) => "COPY",
            Self::Entrypoint(_) => "ENTRYPOINT",
            Self::Env(_) => "ENV",
            Self::Expose(_) => "EXPOSE",
            Self::Healthcheck(_) => "HEALTHCHECK",
            Self::Label(_) => "LABEL",
            Self::Maintainer(_) => "MAINTAINER",
            Self::Onbuild(_) => "ONBUILD",
            Self::Run(_) => "RUN",
            Self::Shell(_) => "SHELL",
            Self::Stopsignal(_) => "STOPSIGNAL",
            Self::User(_) => "USER",
            Self::Volume(_) => "VOLUME",
            Self::Workdir(_) => "WORKDIR",
        }
    }
}
