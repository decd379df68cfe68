//! Texts that nobody would write: bounds, noise, and pieces in any order.

use proptest::prelude::*;

use crate::stages::Plan;
use crate::{Problem, TEXT_BYTES_MAX, parse, parse_trigger};

#[test]
fn bounds_are_kept() {
    let long = vec![b'#'; TEXT_BYTES_MAX + 1];
    assert!(matches!(parse(&long).unwrap_err().problem, Problem::TooLong { .. }));
    let stages = "FROM x\n".repeat(1_001);
    assert!(matches!(parse(stages.as_bytes()).unwrap_err().problem, Problem::TooMany { what: "stages", .. }));
    let many = format!("FROM x\n{}", "RUN a\n".repeat(20_000));
    assert!(matches!(parse(many.as_bytes()).unwrap_err().problem, Problem::TooMany { .. }));
    let documents = format!("FROM x\nRUN {}\n{}", "<<E ".repeat(65), "E\n".repeat(65));
    assert!(matches!(parse(documents.as_bytes()).unwrap_err().problem, Problem::TooMany { .. }));
}

#[test]
fn bytes_that_are_no_text_are_told_with_their_line() {
    let error = parse(b"FROM x\nRUN \xff\n").unwrap_err();
    assert_eq!((error.line, error.problem), (2, Problem::NotText));
}

/// Pieces that mean something, in any order: closer to a Dockerfile than noise ever gets.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "FROM ",
        "RUN ",
        "COPY ",
        "ADD ",
        "ENV ",
        "ARG ",
        "ONBUILD ",
        "HEALTHCHECK ",
        "LABEL ",
        "VOLUME ",
        "EXPOSE ",
        "SHELL ",
        "WORKDIR ",
        "CMD ",
        "--from=",
        "--mount=",
        "type=cache",
        ",",
        "target=",
        "--link",
        "--chown=",
        "<<EOF",
        "<<-\"E\"",
        "EOF",
        "\n",
        "\\\n",
        "\\",
        "`",
        "# escape=`\n",
        "#",
        "\t",
        " ",
        "a",
        "b:1",
        "0",
        " AS ",
        "x",
        "=",
        "\"",
        "'",
        "$",
        "${",
        "}",
        ":-",
        "##",
        "%",
        "//",
        "[",
        "]",
        "[\"a\"]",
        "\r\n",
        "é",
        "\u{feff}",
        "NONE",
        "--interval=1s",
        "*",
    ]);
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("WHARF_FUZZ").ok().and_then(|text| text.parse().ok()).unwrap_or(2_000)
    ))]

    #[test]
    fn any_text_is_read_or_refused(text in pieces()) {
        if let Ok(file) = parse(format!("FROM x\n{text}").as_bytes()) {
            // A plan or a problem; every instruction lies on lines that exist.
            let _ = Plan::new(&file, None, &|_| Some("v".into()));
            let count = text.lines().count() + 2;
            for stage in &file.stages {
                for instruction in &stage.instructions {
                    prop_assert!(instruction.first <= instruction.last && instruction.last <= count);
                }
            }
        }
        let _ = parse(text.as_bytes());
        let _ = parse_trigger(&text, '\\');
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes);
    }
}
