//! What is refused, and in which words.

mod common;

use wharf_policy::{DOCUMENT_BYTES_MAX, Kind, Policy, STATEMENTS_MAX, character_count};

fn refused(kind: Kind, document: &str) -> String {
    match Policy::parse(kind, document) {
        Ok(_) => panic!("accepted: {document}"),
        Err(error) => error.to_string(),
    }
}

fn of_statement(members: &str) -> String {
    format!(r#"{{"Version":"2012-10-17","Statement":[{{{members}}}]}}"#)
}

#[test]
fn identity_policies_are_refused_in_the_words_of_iam() {
    let of = |members: &str| refused(Kind::Identity, &of_statement(members));
    for document in [
        "This is not a json document",
        "[]",
        "{}",
        r#"{"Version":"2012-10-17"}"#,
        r#"{"Version":"2012-10-17","Statement":[]}"#,
        r#"{"Version":"2012-10-18","Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*"}}"#,
        r#"{"Version":"2012-10-17","Extra":1,"Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*"}}"#,
        r#"{"Version":"2012-10-17","Id":["x"],"Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*"}}"#,
        r#"{"Version":"2012-10-17","Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*"}}"#,
    ] {
        assert_eq!(refused(Kind::Identity, document), "Syntax errors in policy.", "{document}");
    }
    for members in [
        r#""Action":"s3:*","Resource":"*""#,
        r#""Effect":"Perhaps","Action":"s3:*","Resource":"*""#,
        r#""Effect":"Allow","Action":"s3:*","NotAction":"s3:*","Resource":"*""#,
        r#""Effect":"Allow","Action":"s3:*","Resource":"*","NotResource":"*""#,
        r#""Effect":"Allow","Action":{"a":"b"},"Resource":"*""#,
        r#""Effect":"Allow","Action":"s3:*","Resource":[1]"#,
        r#""Effect":"Allow","Action":"s3:*","Resource":"*","Unknown":"x""#,
        r#""Effect":"Allow","Action":"s3:*","Resource":"*","Condition":["x"]"#,
        r#""Effect":"Allow","Action":"s3:*","Resource":"*","Condition":{"StringIs":{"a:b":"c"}}"#,
        r#""Effect":"Allow","Action":"s3:*","Resource":"*","Condition":{"ForSome:StringEquals":{"a:b":"c"}}"#,
        r#""Effect":"Allow","Action":"s3:*","Resource":"*","Condition":{"NullIfExists":{"a:b":"true"}}"#,
        r#""Effect":"Allow","Action":"s3:*","Resource":"*","Condition":{"StringEquals":{"a:b":{"c":"d"}}}"#,
        r#""Effect":"Allow","Action":"s3:*","Resource":"*","Condition":{"StringEquals":{"a:b":null}}"#,
        r#""Sid":1,"Effect":"Allow","Action":"s3:*","Resource":"*""#,
    ] {
        assert_eq!(of(members), "Syntax errors in policy.", "{members}");
    }
    for (members, message) in [
        (r#""Effect":"Allow","Resource":"*""#, "Policy statement must contain actions."),
        (r#""Effect":"Allow","Action":[],"Resource":"*""#, "Policy statement must contain actions."),
        (r#""Effect":"Allow","Action":"s3:*""#, "Policy statement must contain resources."),
        (r#""Effect":"Allow","Action":"s3:*","Resource":[]"#, "Policy statement must contain resources."),
        (r#""Effect":"allow","Action":"s3:*","Resource":"*""#, "The policy failed legacy parsing"),
        (
            r#""Effect":"Allow","Action":"s3:*","Resource":"*","Principal":"*""#,
            "Policy document should not specify a principal.",
        ),
        (
            r#""Effect":"Allow","Action":"invalid","Resource":"*""#,
            "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.",
        ),
        (
            r#""Effect":"Allow","Action":"a:b:c","Resource":"*""#,
            "Actions/Condition can contain only one colon.",
        ),
        (r#""Effect":"Allow","Action":"s3*:x","Resource":"*""#, "Vendor s3* is not valid"),
        (
            r#""Effect":"Allow","Action":"s3:*","Resource":"*","Condition":{"StringEquals":{"x":"y"}}"#,
            "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.",
        ),
        (
            r#""Effect":"Allow","Action":"s3:*","Resource":"*","Condition":{"DateLessThan":{"a:b":"tomorrow"}}"#,
            "The policy failed legacy parsing",
        ),
        (
            r#""Effect":"Allow","Action":"s3:*","Resource":"bucket""#,
            "Resource bucket must be in ARN format or \"*\".",
        ),
        (
            r#""Effect":"Allow","Action":"s3:*","Resource":"arn:moon:s3:::b""#,
            "Partition \"moon\" is not valid for resource \"arn:moon:s3:::b\".",
        ),
        (
            r#""Effect":"Allow","Action":"s3:*","Resource":"arn:aws""#,
            "Resource vendor must be fully qualified and cannot contain regexes.",
        ),
        (
            r#""Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3::x""#,
            "The policy failed legacy parsing",
        ),
        (
            r#""Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3:us-east-1::b""#,
            "Resource arn:aws:s3:us-east-1::b can not contain region information.",
        ),
        (
            r#""Effect":"Allow","Action":"iam:*","Resource":"arn:aws:iam:us-east-1::user/x""#,
            "IAM resource arn:aws:iam:us-east-1::user/x cannot contain region information.",
        ),
        (
            r#""Sid":"a b","Effect":"Allow","Action":"s3:*","Resource":"*""#,
            "Statement IDs (SID) must be alpha-numeric. Check that your input satisfies the regular expression [0-9A-Za-z]*",
        ),
    ] {
        assert_eq!(of(members), message, "{members}");
    }
    let old = r#"{"Version":"2008-10-17","Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*"}}"#;
    assert_eq!(refused(Kind::Identity, old), "Policy document must be version 2012-10-17 or greater.");
    let twice = r#"{"Version":"2012-10-17","Statement":[{"Sid":"a","Effect":"Allow","Action":"s3:*","Resource":"*"},
        {"Sid":"a","Effect":"Allow","Action":"s3:*","Resource":"*"}]}"#;
    assert_eq!(refused(Kind::Identity, twice), "Statement IDs (SID) in a single policy must be unique.");
    let path = refused(
        Kind::Identity,
        &of_statement(r#""Effect":"Allow","Action":"iam:*","Resource":"arn:aws:iam::123456789012:robot/x""#),
    );
    assert!(
        path.starts_with("IAM resource path must either be \"*\" or start with user/, federated-user/"),
        "{path}"
    );
}

#[test]
fn what_iam_takes_is_taken() {
    for members in [
        r#""Effect":"Deny","NotAction":["iam:*","sts:GetCallerIdentity"],"NotResource":"arn:aws:iam::*:role/x""#,
        r#""Effect":"Allow","Action":"*","Resource":["arn:aws:ecs:*:*:cluster/*","*"]"#,
        r#""Sid":"","Effect":"Allow","Action":"*:*","Resource":"arn:aws:iam::123456789012:*""#,
        r#""Effect":"Allow","Action":"execute-api:Invoke","Resource":"arn:aws:execute-api:us-east-1:*:*/*/GET/*""#,
        r#""Effect":"Allow","Action":"iam:*","Resource":"arn:aws:iam::123456789012:user/${aws:username}""#,
        r#""Effect":"Allow","Action":"s3:*","Resource":"*","Condition":{"NumericLessThan":{"s3:max-keys":10},"Bool":{"aws:SecureTransport":true}}"#,
        r#""Effect":"Allow","Action":"s3:*","Resource":"*","Condition":{"ForAnyValue:StringLikeIfExists":{"aws:TagKeys":["a*"]}}"#,
    ] {
        if let Err(error) = Policy::parse(Kind::Identity, &of_statement(members)) {
            panic!("{error}: {members}");
        }
    }
}

#[test]
fn trust_policies_say_who_and_never_what_on() {
    let of =
        |members: &str| Policy::parse(Kind::Trust, &of_statement(members)).map_err(|error| error.to_string());
    for members in [
        r#""Effect":"Allow","Principal":{"Service":["ecs-tasks.amazonaws.com","lambda.amazonaws.com"]},"Action":"sts:AssumeRole""#,
        r#""Effect":"Allow","Principal":{"AWS":["123456789012","arn:aws:iam::123456789012:root","*"]},"Action":["sts:AssumeRole","sts:TagSession"]"#,
        r#""Effect":"Allow","Principal":{"Federated":"arn:aws:iam::123456789012:oidc-provider/x.example.com"},"Action":"sts:AssumeRoleWithWebIdentity""#,
        r#""Effect":"Deny","NotPrincipal":{"AWS":"arn:aws:iam::123456789012:user/bob"},"Action":"sts:AssumeRole""#,
        r#""Effect":"Allow","Principal":"*","Action":"sts:AssumeRole""#,
    ] {
        assert!(of(members).is_ok(), "{members}: {:?}", of(members));
    }
    assert!(
        Policy::parse(
            Kind::Trust,
            &of_statement(r#""Effect":"Allow","Principal":"*","Action":"sts:AssumeRole""#)
                .replace("2012", "2008")
        )
        .is_ok()
    );
    for (members, message) in [
        (r#""Effect":"Allow","Action":"sts:AssumeRole""#, "Missing required field Principal"),
        (
            r#""Effect":"Allow","Principal":"*","Action":"sts:AssumeRole","Resource":"*""#,
            "Has prohibited field Resource",
        ),
        (
            r#""Effect":"Allow","Principal":{"AWS":"nobody"},"Action":"sts:AssumeRole""#,
            r#"Invalid principal in policy: "AWS":"nobody""#,
        ),
        (
            r#""Effect":"Allow","Principal":{"Service":"ecs"},"Action":"sts:AssumeRole""#,
            r#"Invalid principal in policy: "Service":"ecs""#,
        ),
        (
            r#""Effect":"Allow","Principal":"bob","Action":"sts:AssumeRole""#,
            r#"Invalid principal in policy: "AWS":"bob""#,
        ),
        (
            r#""Effect":"Allow","Principal":"*","Action":"s3:GetObject""#,
            "Trust Policy statement actions can only be sts:AssumeRole, sts:AssumeRoleWithSAML,  and sts:AssumeRoleWithWebIdentity",
        ),
        (r#""Effect":"Allow","Principal":{},"Action":"sts:AssumeRole""#, "Syntax errors in policy."),
        (
            r#""Effect":"Allow","Principal":{"AWS":[]},"Action":"sts:AssumeRole""#,
            "Missing required field Principal",
        ),
    ] {
        assert_eq!(of(members).map(|_| ()), Err(message.to_owned()), "{members}");
    }
}

#[test]
fn documents_that_are_too_much_are_refused() {
    let statement = r#"{"Effect":"Allow","Action":"a:b","Resource":"*"}"#;
    let many = |count: usize| {
        format!(r#"{{"Version":"2012-10-17","Statement":[{}]}}"#, vec![statement; count].join(","))
    };
    let fits = DOCUMENT_BYTES_MAX / (statement.len() + 1) - 2;
    assert_eq!(Policy::parse(Kind::Identity, &many(fits)).unwrap().statements().len(), fits);
    assert_eq!(refused(Kind::Identity, &many(STATEMENTS_MAX + 1)), "Syntax errors in policy.");
    let deep = format!("{}{}", "[".repeat(60_000), "]".repeat(60_000));
    assert_eq!(refused(Kind::Identity, &deep), "Syntax errors in policy.");
    let nested = format!(r#"{{"Version":"2012-10-17","Statement":{}"#, r#"{"a":"#.repeat(20_000));
    assert_eq!(refused(Kind::Identity, &nested), "Syntax errors in policy.");
    assert_eq!(character_count("{ \"a\" :\n\t\"b c\" }"), 10);
}

#[test]
fn a_policy_tells_its_keys_principals_and_statements() {
    let document = r#"{
  "Version": "2012-10-17",
  "Id": "mine",
  "Statement": [
    {
      "Sid": "first",
      "Effect": "Allow",
      "Principal": {"AWS": "123456789012"},
      "Action": "s3:GetObject",
      "Resource": "arn:aws:s3:::b/${aws:username}/*",
      "Condition": {"StringEquals": {"aws:PrincipalTag/Team": "${aws:RequestTag/team}", "AWS:UserName": "x"}}
    }
  ]
}"#;
    let policy = Policy::parse(Kind::Resource, document).unwrap();
    assert_eq!(policy.id(), Some("mine"));
    assert_eq!(policy.context_keys(), ["aws:username", "aws:PrincipalTag/Team", "aws:RequestTag/team"]);
    assert_eq!(policy.principals().count(), 1);
    let statement = &policy.statements()[0];
    assert_eq!((statement.sid(), statement.actions()), (Some("first"), &["s3:GetObject".to_owned()][..]));
    let span = statement.span();
    assert_eq!((span.start.line, span.start.column, span.end.line, span.end.column), (5, 5, 12, 6));
}
