//! Which stages are needed for a target, and what a `FROM` comes to.

use crate::parse;
use crate::stages::{Base, Plan};

const FILE: &str = "\
ARG VERSION=1
ARG IMAGE=base:${VERSION}
FROM ${IMAGE} AS base
FROM base AS left
RUN a
FROM base AS right
RUN --mount=from=tools,target=/t b
FROM alone AS unused
COPY --from=left /a /a
FROM scratch
COPY --from=left /a /a
COPY --from=2 /b /b
";

fn plan(target: Option<&str>) -> Plan {
    Plan::new(&parse(FILE.as_bytes()).unwrap(), target, &|_| None).unwrap()
}

#[test]
fn stages_that_nothing_needs_are_left_out_and_independent_ones_stand_together() {
    let all = plan(None);
    assert_eq!(all.waves, [vec![0], vec![1, 2], vec![4]]);
    assert_eq!(all.stages[0].base, Base::Image("base:1".into()));
    assert_eq!(all.stages[4].base, Base::Scratch);
    assert!(all.stages[2].from.contains(&Base::Image("tools".into())));
    assert_eq!(plan(Some("LEFT")).waves, [vec![0], vec![1]]);
    assert_eq!(plan(Some("0")).waves, [vec![0]]);
    assert_eq!(plan(Some("unused")).waves, [vec![0], vec![1], vec![3]]);
}

#[test]
fn the_command_line_overrides_a_default_that_others_use() {
    let file = parse(FILE.as_bytes()).unwrap();
    let plan = Plan::new(&file, None, &|name| (name == "VERSION").then(|| "9".into())).unwrap();
    assert_eq!(plan.stages[0].base, Base::Image("base:9".into()));
}

#[test]
fn what_is_not_there_is_told_with_its_line() {
    let error = |text: &str, target| {
        Plan::new(&parse(text.as_bytes()).unwrap(), target, &|_| None).unwrap_err().to_string()
    };
    assert!(error("FROM a\n", Some("b")).contains("target stage \"b\" could not be found"));
    assert!(
        error("FROM a\nFROM $NONE\n", None).contains("line 2: FROM: base name ($NONE) should not be blank")
    );
    assert!(error("FROM a\nCOPY --from=0 a b\n", None).contains("line 2: COPY: invalid from flag value 0"));
    assert!(error("FROM ${a:?say}\n", None).contains("a: say"));
}

#[test]
fn a_platform_argument_needs_no_declaration() {
    let file = parse(b"FROM --platform=$BUILDPLATFORM a\n").unwrap();
    let plan =
        Plan::new(&file, None, &|name| (name == "BUILDPLATFORM").then(|| "linux/amd64".into())).unwrap();
    assert_eq!(plan.stages[0].platform.as_deref(), Some("linux/amd64"));
}
