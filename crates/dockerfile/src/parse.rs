//! From logical lines to stages of instructions.

use crate::directive::Directives;
use crate::error::{Error, Problem};
use crate::expand;
use crate::flags::{self, Flags};
use crate::instruction::{
    Add, Arg, Command, Copy, Health, HealthCheck, HereDocument, Instruction, Network, Pair, Run, Source,
};
use crate::lines::{self, Line};
use crate::{INSTRUCTIONS_MAX, STAGES_MAX, TEXT_BYTES_MAX};

/// A Dockerfile, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dockerfile {
    pub directives: Directives,
    /// The `ARG`s before the first `FROM`: they are for the `FROM`s alone.
    pub global_args: Vec<Located<Vec<Arg>>>,
    /// Never empty.
    pub stages: Vec<Stage>,
}

/// Something and the physical lines that it stands on, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located<T> {
    pub first: usize,
    pub last: usize,
    /// As it is written, on one line: what progress shows.
    pub text: String,
    pub value: T,
}

/// `FROM` and what follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// In lower case.
    pub name: Option<String>,
    /// A word: an image, an earlier stage's name, or `scratch`.
    pub base: String,
    /// A word.
    pub platform: Option<String>,
    pub line: usize,
    /// The `FROM` as it is written.
    pub text: String,
    pub instructions: Vec<Located<Instruction>>,
}

const INSTRUCTIONS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Reads a Dockerfile.
///
/// # Errors
/// The first thing that is wrong with it, with its line.
pub fn parse(bytes: &[u8]) -> Result<Dockerfile, Error> {
    if bytes.len() > TEXT_BYTES_MAX {
        return Err(Problem::TooLong { max: TEXT_BYTES_MAX }.at(1));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        Problem::NotText.at(line)
    })?;
    let text = text.trim_start_matches('\u{feff}');
    let directives = Directives::read(text)?;
    let lines = lines::logical(text, directives.escape)?;
    if lines.is_empty() {
        return Err(Problem::Empty.at(1));
    }
    if lines.len() > INSTRUCTIONS_MAX {
        return Err(Problem::TooMany { what: "instructions", max: INSTRUCTIONS_MAX }.at(lines.len()));
    }
    let mut dockerfile = Dockerfile { directives, global_args: Vec::new(), stages: Vec::new() };
    let escape = dockerfile.directives.escape;
    for line in lines {
        dockerfile.take(&line, escape).map_err(|problem| problem.at(line.first))?;
    }
    if dockerfile.stages.is_empty() {
        return Err(Problem::NoStage.at(1));
    }
    Ok(dockerfile)
}

/// Reads an `ONBUILD` trigger of a base image.
///
/// # Errors
/// As [`parse`]; and `FROM`, `ONBUILD` and `MAINTAINER` cannot be triggers.
pub fn parse_trigger(trigger: &str, escape: char) -> Result<Instruction, Error> {
    if trigger.len() > TEXT_BYTES_MAX {
        return Err(Problem::TooLong { max: TEXT_BYTES_MAX }.at(1));
    }
    let lines = lines::logical(trigger, escape)?;
    let [line] = lines.as_slice() else {
        return Err(Problem::value("ONBUILD", "a trigger is one instruction").at(1));
    };
    check_trigger(&line.text).and_then(|()| instruction(line, escape)).map_err(|problem| problem.at(1))
}

impl Dockerfile {
    fn take(&mut self, line: &Line, escape: char) -> Result<(), Problem> {
        let (name, arguments) = split_name(&line.text);
        if name.eq_ignore_ascii_case("FROM") {
            if self.stages.len() == STAGES_MAX {
                return Err(Problem::TooMany { what: "stages", max: STAGES_MAX });
            }
            let stage = from(line, arguments, escape)?;
            if let Some(name) = &stage.name
                && self.stages.iter().any(|earlier| earlier.name.as_ref() == Some(name))
            {
                return Err(Problem::StageNameTwice { name: name.clone() });
            }
            self.stages.push(stage);
            return Ok(());
        }
        let value = instruction(line, escape)?;
        match (self.stages.last_mut(), value) {
            (Some(stage), value) => stage.instructions.push(located(line, value)),
            (None, Instruction::Arg(args)) => self.global_args.push(located(line, args)),
            (None, other) => return Err(Problem::BeforeStage { instruction: other.name().to_owned() }),
        }
        Ok(())
    }
}

fn located<T>(line: &Line, value: T) -> Located<T> {
    Located { first: line.first, last: line.last, text: line.text.clone(), value }
}

fn split_name(text: &str) -> (&str, &str) {
    match text.find(char::is_whitespace) {
        Some(at) => (&text[..at], text[at..].trim()),
        None => (text, ""),
    }
}

fn arguments_problem(instruction: &'static str, wanted: &'static str) -> Problem {
    Problem::Arguments { instruction, wanted }
}

fn from(line: &Line, arguments: &str, escape: char) -> Result<Stage, Problem> {
    let (mut flags, rest) = Flags::take("FROM", arguments, escape)?;
    let platform = flags.value("platform")?;
    flags.end()?;
    let words: Vec<&str> = rest.split_whitespace().collect();
    let (base, name) = match words.as_slice() {
        [base] => (*base, None),
        [base, keyword, name] if keyword.eq_ignore_ascii_case("AS") => (*base, Some(stage_name(name)?)),
        _ => return Err(arguments_problem("FROM", "either one or three arguments: FROM image [AS name]")),
    };
    Ok(Stage {
        name,
        base: base.to_owned(),
        platform,
        line: line.first,
        text: line.text.clone(),
        instructions: Vec::new(),
    })
}

fn stage_name(name: &str) -> Result<String, Problem> {
    let lower = name.to_ascii_lowercase();
    let bad = |problem| Problem::StageName { name: name.to_owned(), problem };
    if !lower.starts_with(|first: char| first.is_ascii_lowercase())
        || !lower
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.'))
    {
        return Err(bad("it starts with a letter and holds letters, digits, '-', '_' and '.'"));
    }
    if matches!(lower.as_str(), "scratch" | "context") {
        return Err(bad("it is reserved"));
    }
    Ok(lower)
}

/// Any instruction but `FROM`.
fn instruction(line: &Line, escape: char) -> Result<Instruction, Problem> {
    let (name, arguments) = split_name(&line.text);
    let upper = name.to_ascii_uppercase();
    let Some(known) = INSTRUCTIONS.iter().find(|known| **known == upper) else {
        return Err(Problem::UnknownInstruction { name: name.to_owned(), suggestion: nearest(&upper) });
    };
    if arguments.is_empty() && line.here_documents.is_empty() {
        return Err(arguments_problem(known, "at least one argument"));
    }
    let one_word = |instruction| {
        let mut words = expand::split(arguments, escape).into_iter();
        match (words.next(), words.next()) {
            (Some(word), None) => Ok(word.to_owned()),
            _ => Err(arguments_problem(instruction, "exactly one argument")),
        }
    };
    Ok(match *known {
        "ADD" => Instruction::Add(add(line, arguments, escape)?),
        "ARG" => Instruction::Arg(args(arguments, escape)?),
        "CMD" => Instruction::Cmd(command(arguments)),
        "COPY" => Instruction::Copy(copy(line, arguments, escape)?),
        "ENTRYPOINT" => Instruction::Entrypoint(command(arguments)),
        "ENV" => Instruction::Env(pairs("ENV", arguments, escape)?),
        "EXPOSE" => Instruction::Expose(arguments.to_owned()),
        "HEALTHCHECK" => Instruction::Healthcheck(health_check(arguments, escape)?),
        "LABEL" => Instruction::Label(pairs("LABEL", arguments, escape)?),
        "MAINTAINER" => Instruction::Maintainer(arguments.to_owned()),
        "ONBUILD" => {
            check_trigger(arguments)?;
            // A trigger that could not be read later is refused now.
            let trigger = Line { text: arguments.to_owned(), ..line.clone() };
            instruction(&trigger, escape)?;
            Instruction::Onbuild(trigger_text(arguments, &line.here_documents))
        }
        "RUN" => Instruction::Run(run(line, arguments, escape)?),
        "SHELL" => match json(arguments) {
            Some(words) if !words.is_empty() => Instruction::Shell(words),
            _ => return Err(arguments_problem("SHELL", "the arguments to be in JSON form")),
        },
        "STOPSIGNAL" => Instruction::Stopsignal(one_word("STOPSIGNAL")?),
        "USER" => Instruction::User(one_word("USER")?),
        "VOLUME" => Instruction::Volume(volumes(arguments, escape)?),
        // A directory's name may hold blanks: the whole line is the word.
        _ => Instruction::Workdir(arguments.to_owned()),
    })
}

/// The trigger with its documents behind it, so that it can be read again.
fn trigger_text(text: &str, documents: &[HereDocument]) -> String {
    let mut out = text.to_owned();
    for document in documents {
        out.push('\n');
        out.push_str(&document.content);
        out.push_str(&document.name);
    }
    out
}

fn check_trigger(text: &str) -> Result<(), Problem> {
    let name = split_name(text).0.to_ascii_uppercase();
    match name.as_str() {
        "ONBUILD" => Err(Problem::value("ONBUILD", "chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")),
        "FROM" | "MAINTAINER" => {
            Err(Problem::value("ONBUILD", format!("{name} isn't allowed as an ONBUILD trigger")))
        }
        _ => Ok(()),
    }
}

fn command(text: &str) -> Command {
    json(text).map_or_else(|| Command::Shell(text.to_owned()), Command::Exec)
}

/// A JSON array of strings, else `None`.
fn json(text: &str) -> Option<Vec<String>> {
    text.starts_with('[').then(|| serde_json::from_str(text).ok()).flatten()
}

fn args(arguments: &str, escape: char) -> Result<Vec<Arg>, Problem> {
    expand::split(arguments, escape)
        .into_iter()
        .map(|word| {
            let (name, default) = match word.split_once('=') {
                Some((name, default)) => (name, Some(default.to_owned())),
                None => (word, None),
            };
            if name.is_empty() {
                return Err(Problem::value("ARG", "ARG names can not be blank"));
            }
            Ok(Arg { name: name.to_owned(), default })
        })
        .collect()
}

/// `a=b c="d e"`, or the old form of one `name value with blanks`.
fn pairs(instruction: &'static str, arguments: &str, escape: char) -> Result<Vec<Pair>, Problem> {
    let words = expand::split(arguments, escape);
    let Some(first) = words.first() else {
        return Err(arguments_problem(instruction, "at least one argument"));
    };
    if !first.contains('=') {
        let (name, value) = split_name(arguments);
        if value.is_empty() {
            return Err(arguments_problem(instruction, "two arguments"));
        }
        return Ok(vec![Pair { name: name.to_owned(), value: value.to_owned() }]);
    }
    words
        .into_iter()
        .map(|word| match word.split_once('=') {
            None => Err(Problem::value(
                instruction,
                format!("can't find = in {word:?}. Must be of the form: name=value"),
            )),
            Some(("", _)) => Err(Problem::value(instruction, "names can not be blank")),
            Some((name, value)) => Ok(Pair { name: name.to_owned(), value: value.to_owned() }),
        })
        .collect()
}

fn volumes(arguments: &str, escape: char) -> Result<Vec<String>, Problem> {
    let words = json(arguments)
        .unwrap_or_else(|| expand::split(arguments, escape).into_iter().map(str::to_owned).collect());
    if words.is_empty() || words.iter().any(|word| word.trim().is_empty()) {
        return Err(Problem::value("VOLUME", "VOLUME specified can not be an empty string"));
    }
    Ok(words)
}

/// The sources and the destination of `COPY` and `ADD`.
fn transfer(
    instruction: &'static str,
    line: &Line,
    rest: &str,
    escape: char,
) -> Result<(Vec<Source>, String), Problem> {
    let mut words =
        json(rest).unwrap_or_else(|| expand::split(rest, escape).into_iter().map(str::to_owned).collect());
    let wanted = || arguments_problem(instruction, "at least two arguments: a source and a destination");
    let destination = words.pop().ok_or_else(wanted)?;
    if words.is_empty() {
        return Err(wanted());
    }
    let mut documents = line.here_documents.iter();
    let sources = words
        .into_iter()
        .map(|word| match word.contains("<<").then(|| documents.next()).flatten() {
            Some(document) => Source::Document(document.clone()),
            None => Source::Path(word),
        })
        .collect();
    if documents.next().is_some() {
        return Err(Problem::value(instruction, "a heredoc cannot be the destination"));
    }
    Ok((sources, destination))
}

fn copy(line: &Line, arguments: &str, escape: char) -> Result<Copy, Problem> {
    let (mut flags, rest) = Flags::take("COPY", arguments, escape)?;
    let from = flags.value("from")?;
    if from.as_ref().is_some_and(|from| from.contains('$')) {
        return Err(Problem::Flag {
            instruction: "COPY",
            flag: "from".into(),
            problem: "takes no variable: define a stage with FROM using an ARG from the global scope".into(),
        });
    }
    let chown = flags.value("chown")?;
    let chmod = flags.value("chmod")?;
    let link = flags.switch("link")?.unwrap_or(false);
    let parents = flags.switch("parents")?.unwrap_or(false);
    let exclude = flags.values("exclude")?;
    flags.end()?;
    let (sources, destination) = transfer("COPY", line, rest, escape)?;
    if from.is_some() && sources.iter().any(|source| matches!(source, Source::Document(_))) {
        return Err(Problem::value("COPY", "a heredoc cannot come --from a stage"));
    }
    Ok(Copy { from, sources, destination, chown, chmod, link, parents, exclude })
}

fn add(line: &Line, arguments: &str, escape: char) -> Result<Add, Problem> {
    let (mut flags, rest) = Flags::take("ADD", arguments, escape)?;
    let chown = flags.value("chown")?;
    let chmod = flags.value("chmod")?;
    let checksum = flags.value("checksum")?;
    let link = flags.switch("link")?.unwrap_or(false);
    let keep_git_dir = flags.switch("keep-git-dir")?.unwrap_or(false);
    let unpack = flags.switch("unpack")?;
    let exclude = flags.values("exclude")?;
    flags.end()?;
    let (sources, destination) = transfer("ADD", line, rest, escape)?;
    Ok(Add { sources, destination, chown, chmod, link, checksum, keep_git_dir, exclude, unpack })
}

fn run(line: &Line, arguments: &str, escape: char) -> Result<Run, Problem> {
    let (mut flags, rest) = Flags::take("RUN", arguments, escape)?;
    let mounts = flags.values("mount")?.iter().map(|mount| flags::mount(mount)).collect::<Result<_, _>>()?;
    let choice = |flag: &str, value: String| Problem::Flag {
        instruction: "RUN",
        flag: flag.to_owned(),
        problem: format!("does not know {value:?}"),
    };
    let network = match flags.value("network")?.as_deref() {
        None | Some("default") => Network::Default,
        Some("none") => Network::None,
        Some("host") => Network::Host,
        Some(other) => return Err(choice("network", other.to_owned())),
    };
    let insecure = match flags.value("security")?.as_deref() {
        None | Some("sandbox") => false,
        Some("insecure") => true,
        Some(other) => return Err(choice("security", other.to_owned())),
    };
    flags.end()?;
    if rest.is_empty() {
        return Err(arguments_problem("RUN", "at least one argument"));
    }
    let documents = line.here_documents.clone();
    let command = if documents.is_empty() { command(rest) } else { Command::Shell(rest.to_owned()) };
    Ok(Run { command, documents, mounts, network, insecure })
}

fn health_check(arguments: &str, escape: char) -> Result<HealthCheck, Problem> {
    let (mut flags, rest) = Flags::take("HEALTHCHECK", arguments, escape)?;
    let (kind, text) = split_name(rest);
    match kind.to_ascii_uppercase().as_str() {
        "NONE" => {
            flags.end()?;
            if text.is_empty() {
                Ok(HealthCheck::None)
            } else {
                Err(Problem::value("HEALTHCHECK", "HEALTHCHECK NONE takes no arguments"))
            }
        }
        "CMD" => {
            let interval = flags.duration("interval")?;
            let timeout = flags.duration("timeout")?;
            let start_period = flags.duration("start-period")?;
            let start_interval = flags.duration("start-interval")?;
            let retries = match flags.value("retries")? {
                None => None,
                Some(text) => Some(text.parse().map_err(|_| Problem::Flag {
                    instruction: "HEALTHCHECK",
                    flag: "retries".into(),
                    problem: format!("is a number, at least 0, not {text:?}"),
                })?),
            };
            flags.end()?;
            if text.is_empty() {
                return Err(Problem::value("HEALTHCHECK", "missing command after HEALTHCHECK CMD"));
            }
            let command = command(text);
            let health = Health { command, interval, timeout, start_period, start_interval, retries };
            Ok(HealthCheck::Check(health))
        }
        other => Err(Problem::value("HEALTHCHECK", format!("unknown type {other:?} (try CMD or NONE)"))),
    }
}

/// The instruction that a mistyped name most likely means.
fn nearest(name: &str) -> Option<&'static str> {
    INSTRUCTIONS
        .iter()
        .map(|known| (distance(name, known), *known))
        .min()
        .filter(|(distance, known)| *distance <= known.len() / 3 + 1 && *distance < known.len())
        .map(|(_, known)| known)
}

/// Levenshtein's, over short names.
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().take(32).collect();
    let mut row: Vec<usize> = (0..=left.len()).collect();
    for (line, there) in right.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, here) in left.iter().enumerate() {
            let above = row[column + 1];
            row[column + 1] = (diagonal + usize::from(*here != there)).min(above + 1).min(row[column] + 1);
            diagonal = above;
        }
    }
    row[left.len()]
}
