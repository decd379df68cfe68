//! Every instruction and every form of it, and what is refused of each.

use std::time::Duration;

use crate::{
    Command, Dockerfile, HealthCheck, Instruction, MountKind, Network, Source, parse, parse_trigger,
};

fn file(text: &str) -> Dockerfile {
    parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}\n{error}"))
}

/// The only instruction behind `FROM x`.
fn one(text: &str) -> Instruction {
    let mut file = file(&format!("FROM x\n{text}\n"));
    assert_eq!(file.stages[0].instructions.len(), 1, "{text}");
    file.stages.remove(0).instructions.remove(0).value
}

fn error(text: &str) -> String {
    parse(text.as_bytes()).expect_err(text).to_string()
}

#[test]
fn lines_join_and_comments_between_them_go() {
    let file = file("FROM x\n# one\nRUN a \\\n  # two\n\n  b \\\n  && c\nCMD d\n");
    let run = &file.stages[0].instructions[0];
    assert_eq!((run.first, run.last), (3, 7));
    let Instruction::Run(run) = &run.value else { panic!() };
    assert_eq!(run.command, Command::Shell("a   b   && c".into()));
    assert_eq!(file.stages[0].instructions[1].first, 8);
}

#[test]
fn another_escape_character_leaves_backslashes_alone() {
    let file = file("# escape=`\nFROM x\nRUN dir c:\\\nCOPY a `\n  c:\\\n");
    assert_eq!(file.stages[0].instructions.len(), 2);
    let Instruction::Copy(copy) = &file.stages[0].instructions[1].value else { panic!() };
    assert_eq!(copy.destination, "c:\\");
}

#[test]
fn stages_have_names_and_platforms() {
    let file = file("ARG V=1\nFROM --platform=$BUILDPLATFORM a:$V as Build-1\nFROM Build-1\n");
    assert_eq!(file.global_args.len(), 1);
    assert_eq!(file.stages[0].name.as_deref(), Some("build-1"));
    assert_eq!(file.stages[0].platform.as_deref(), Some("$BUILDPLATFORM"));
    for (text, expected) in [
        ("FROM", "line 1: FROM requires"),
        ("FROM a b", "either one or three"),
        ("FROM a AS 1x", "invalid name for build stage"),
        ("FROM a AS scratch", "reserved"),
        ("FROM a AS b\nFROM c AS B", "line 2: the stage name \"b\" is used twice"),
        ("FROM --wat=1 a", "unknown flag: --wat"),
        ("RUN a\nFROM x", "RUN stands before the first FROM"),
        ("ARG a=1", "there is no FROM"),
        ("", "empty"),
        ("# only a comment\n", "empty"),
    ] {
        assert!(error(text).contains(expected), "{text}: {}", error(text));
    }
}

#[test]
fn commands_have_two_forms() {
    assert_eq!(one(r#"CMD ["a", "b c"]"#), Instruction::Cmd(Command::Exec(vec!["a".into(), "b c".into()])));
    assert_eq!(one("CMD a b"), Instruction::Cmd(Command::Shell("a b".into())));
    // Not JSON: a shell line that begins with a bracket.
    assert_eq!(one("CMD ['a']"), Instruction::Cmd(Command::Shell("['a']".into())));
    assert_eq!(one("entrypoint []"), Instruction::Entrypoint(Command::Exec(Vec::new())));
    assert!(error("FROM x\nSHELL a b").contains("JSON form"));
}

#[test]
fn pairs_have_two_forms() {
    let pairs = |text: &str| match one(text) {
        Instruction::Env(pairs) | Instruction::Label(pairs) => {
            pairs.into_iter().map(|pair| (pair.name, pair.value)).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(pairs("ENV a b c"), [("a".into(), "b c".into())]);
    assert_eq!(
        pairs(r#"ENV a="b c" d=e\ f"#),
        [("a".into(), "\"b c\"".into()), ("d".into(), r"e\ f".into())]
    );
    assert_eq!(pairs("LABEL \"com.x\"=\"y\""), [("\"com.x\"".into(), "\"y\"".into())]);
    assert!(error("FROM x\nENV a=b c").contains("can't find = in \"c\""));
    assert!(error("FROM x\nENV a").contains("ENV requires two arguments"));
}

#[test]
fn copy_and_add_take_flags_documents_and_json() {
    let Instruction::Copy(copy) =
        one("COPY --from=build --chown=1:2 --chmod=755 --link --exclude=*.o --exclude=*.a /a /b /c/")
    else {
        panic!()
    };
    assert_eq!(copy.from.as_deref(), Some("build"));
    assert_eq!((copy.chown.as_deref(), copy.chmod.as_deref(), copy.link), (Some("1:2"), Some("755"), true));
    assert_eq!(copy.exclude, ["*.o", "*.a"]);
    assert_eq!(copy.sources, [Source::Path("/a".into()), Source::Path("/b".into())]);
    let Instruction::Copy(copy) = one(r#"COPY ["a file", "/b c/"]"#) else { panic!() };
    assert_eq!((copy.sources.len(), copy.destination.as_str()), (1, "/b c/"));
    let Instruction::Add(add) = one("ADD --checksum=sha256:00 --keep-git-dir=false http://x/y /z") else {
        panic!()
    };
    assert_eq!(add.checksum.as_deref(), Some("sha256:00"));
    for (text, expected) in [
        ("COPY a", "at least two arguments"),
        ("COPY --from=$x a b", "takes no variable"),
        ("COPY --from a b", "needs a value"),
        ("COPY --link=maybe a b", "is true or false"),
        ("COPY --chown=1 --chown=2 a b", "is given twice"),
        ("COPY --checksum=1 a b", "unknown flag: --checksum of COPY"),
    ] {
        let text = format!("FROM x\n{text}");
        assert!(error(&text).contains(expected), "{text}: {}", error(&text));
    }
}

#[test]
fn here_documents_belong_to_their_instruction() {
    let file = file(
        "FROM x\nRUN <<EOF\nset -e\n# kept\necho $a\nEOF\nCOPY <<-\"A\" <<B /d/\n\t\tone\nA\ntwo\nB\nCMD z\n",
    );
    let instructions = &file.stages[0].instructions;
    assert_eq!(instructions.len(), 3);
    let Instruction::Run(run) = &instructions[0].value else { panic!() };
    assert_eq!(run.documents[0].content, "set -e\n# kept\necho $a\n");
    assert!(run.documents[0].expand);
    let Instruction::Copy(copy) = &instructions[1].value else { panic!() };
    let contents: Vec<_> = copy
        .sources
        .iter()
        .map(|source| match source {
            Source::Document(document) => {
                (document.name.as_str(), document.content.as_str(), document.expand)
            }
            Source::Path(path) => panic!("{path}"),
        })
        .collect();
    assert_eq!(contents, [("A", "one\n", false), ("B", "two\n", true)]);
    assert_eq!((instructions[1].first, instructions[1].last), (7, 11));
    assert!(error("FROM x\nRUN <<EOF\nnever").contains("line 2: unterminated heredoc: \"EOF\""));
    assert!(error("FROM x\nCOPY a <<EOF\nEOF\n").contains("destination"));
    // A shift is no document, and other instructions have none.
    let Instruction::Run(run) = one("RUN echo $((1 << 2)) '<<EOF'") else { panic!() };
    assert!(run.documents.is_empty());
    assert_eq!(one("CMD cat <<EOF"), Instruction::Cmd(Command::Shell("cat <<EOF".into())));
}

#[test]
fn run_takes_mounts_and_a_network() {
    let Instruction::Run(run) =
        one("RUN --mount=type=cache,target=/c --mount=type=secret,id=s --network=none make")
    else {
        panic!()
    };
    assert_eq!(run.network, Network::None);
    assert!(matches!(run.mounts[0].kind, MountKind::Cache { .. }));
    assert_eq!(run.command, Command::Shell("make".into()));
    assert!(error("FROM x\nRUN --network=moon a").contains("does not know \"moon\""));
    assert!(error("FROM x\nRUN --mount=type=cache a").contains("target is required"));
}

#[test]
fn a_health_check_has_its_times() {
    let Instruction::Healthcheck(HealthCheck::Check(health)) =
        one("HEALTHCHECK --interval=5m --timeout=3s --retries=2 CMD curl -f http://localhost/ || exit 1")
    else {
        panic!()
    };
    assert_eq!((health.interval, health.retries), (Some(Duration::from_secs(300)), Some(2)));
    assert_eq!(health.command, Command::Shell("curl -f http://localhost/ || exit 1".into()));
    assert_eq!(one("HEALTHCHECK NONE"), Instruction::Healthcheck(HealthCheck::None));
    for (text, expected) in [
        ("HEALTHCHECK NONE x", "takes no arguments"),
        ("HEALTHCHECK CMD", "missing command"),
        ("HEALTHCHECK PING x", "unknown type \"PING\""),
        ("HEALTHCHECK --interval=5 CMD x", "is a time as 1m30s"),
        ("HEALTHCHECK --interval=1us CMD x", "cannot be less than 1ms"),
        ("HEALTHCHECK --retries=-1 CMD x", "is a number"),
    ] {
        let text = format!("FROM x\n{text}");
        assert!(error(&text).contains(expected), "{text}: {}", error(&text));
    }
}

#[test]
fn a_trigger_is_read_again_as_it_was_written() {
    let Instruction::Onbuild(trigger) = one("ONBUILD RUN <<EOF\na\nEOF") else { panic!() };
    let Instruction::Run(run) = parse_trigger(&trigger, '\\').unwrap() else { panic!() };
    assert_eq!(run.documents[0].content, "a\n");
    for (text, expected) in [
        ("ONBUILD ONBUILD RUN a", "isn't allowed"),
        ("ONBUILD FROM a", "FROM isn't allowed"),
        ("ONBUILD WAT", "unknown instruction"),
    ] {
        let text = format!("FROM x\n{text}");
        assert!(error(&text).contains(expected), "{text}");
    }
    assert!(parse_trigger("RUN a\nRUN b", '\\').is_err());
}

#[test]
fn a_mistyped_name_gets_a_suggestion() {
    assert!(error("FORM x").contains("unknown instruction: FORM (did you mean FROM?)"));
    assert!(error("FROM x\nCOPPY a b").contains("did you mean COPY?"));
    assert!(!error("FROM x\nSOMETHINGELSE a").contains("did you mean"));
    assert!(error("FROM x\nRUN").contains("RUN requires at least one argument"));
}
