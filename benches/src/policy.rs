//! IAM's policies: how long a decision takes, and how long it takes to compile a policy.
//!
//! The caller has 10 policies of 10 statements. In the mean case they speak of ten services, as
//! policies do; in the worst, all of the service that is asked for, with wildcards, variables and
//! conditions, and the last one decides.

use std::hint::black_box;
use std::sync::Arc;

use wharf_policy::{Caller, Decision, Keys, Kind, Policy, PolicySet, Question, decide};

use crate::cpu;
use crate::report::{Report, Spread};

const POLICIES: usize = 10;
const STATEMENTS: usize = 10;
const DECISIONS: usize = 20_000;
const COMPILATIONS: usize = 500;
const REPEATS: usize = 15;
const SERVICES: [&str; 10] =
    ["ecs", "ec2", "logs", "sqs", "sns", "ecr", "ssm", "secretsmanager", "lambda", "dynamodb"];

pub fn bench() -> Report {
    let mut report = Report::new();
    let budget = "≤ 5 µs";
    for (name, documents) in [
        ("10 policies × 10 statements, ten services", documents(|statement| SERVICES[statement])),
        ("10 policies × 10 statements, all of one service", documents(|_| "ecs")),
    ] {
        let policies: Vec<Arc<Policy>> = documents.iter().map(|text| Arc::new(compile(text))).collect();
        for (outcome, action) in [("allowed last", "ecs:RunTask"), ("denied", "ecs:StopTask")] {
            let name = format!("decision, {name}, {outcome}");
            report.add(&name, "µs", decisions(&policies, action), None, budget);
        }
    }
    let text = &documents(|_| "ecs")[0];
    let samples = timed(COMPILATIONS, || drop(black_box(compile(black_box(text)))));
    let name = format!("compilation, {STATEMENTS} statements, {} bytes", text.len());
    report.add(&name, "µs", samples, None, "once a policy version");
    report
}

fn compile(text: &str) -> Policy {
    match Policy::parse(Kind::Identity, text) {
        Ok(policy) => policy,
        Err(error) => panic!("the bench's policies are well-formed: {error}"),
    }
}

/// The statement that allows `ecs:RunTask` is the last of the last policy.
fn documents(service_of: impl Fn(usize) -> &'static str) -> Vec<String> {
    (0..POLICIES)
        .map(|policy| {
            let statements: Vec<String> = (0..STATEMENTS)
                .map(|statement| {
                    let service = service_of(statement);
                    let last = policy + 1 == POLICIES && statement + 1 == STATEMENTS;
                    let (service, actions) = match last {
                        true => ("ecs", "\"ecs:Run*\"".to_owned()),
                        false => (service, format!("\"{service}:Run*\",\"{service}:Describe*\"")),
                    };
                    let name = if last { "web" } else { "other" };
                    format!(
                        r#"{{"Sid":"S{statement}","Effect":"Allow","Action":[{actions}],
                        "Resource":["arn:aws:{service}:*:123456789012:task-definition/{name}-*:*","arn:aws:{service}:us-*:123456789012:x/${{aws:username}}/*"],
                        "Condition":{{"StringEquals":{{"aws:RequestedRegion":["us-east-1","eu-west-1"]}},"StringLike":{{"aws:PrincipalTag/team":"bl*"}}}}}}"#
                    )
                })
                .collect();
            format!(r#"{{"Version":"2012-10-17","Statement":[{}]}}"#, statements.join(","))
        })
        .collect()
}

fn decisions(policies: &[Arc<Policy>], action: &str) -> Spread {
    let account = wharf_core::AccountId::DEFAULT;
    let caller =
        Caller::User { account, arn: "arn:aws:iam::000000000000:user/bob".into(), id: "AIDA".into() };
    let keys = Keys::new()
        .with("aws:username", "bob")
        .with("aws:RequestedRegion", "us-east-1")
        .with("aws:PrincipalTag/team", "blue");
    let question = Question {
        caller: &caller,
        action,
        resource: "arn:aws:ecs:us-east-1:123456789012:task-definition/web-frontend:12",
        owner: Some(account),
        context: &keys,
    };
    let set = PolicySet { identity: Some(policies), ..PolicySet::default() };
    let expected = if action == "ecs:RunTask" { Decision::Allowed } else { Decision::ImplicitDeny };
    timed(DECISIONS, || {
        let verdict = decide(black_box(&question), black_box(&set), None);
        assert_eq!(verdict.decision, expected);
    })
}

/// Microseconds of CPU for one call: others may use the machine meanwhile.
fn timed(count: usize, mut call: impl FnMut()) -> Spread {
    let samples = (0..REPEATS).map(|_| {
        let before = cpu::nanos(std::process::id());
        (0..count).for_each(|_| call());
        (cpu::nanos(std::process::id()) - before) as f64 / 1000.0 / count as f64
    });
    Spread::of(samples.collect())
}
