//! Condition operators, by the examples and tables of the IAM User Guide.

mod common;

use common::{allowed, holds, identity};
use wharf_policy::Keys;

#[test]
fn each_operator_compares_as_documented() {
    let keys = Keys::new()
        .with("aws:PrincipalTag/job-category", "iamuser-admin")
        .with("aws:MultiFactorAuthAge", "600")
        .with("aws:TokenIssueTime", "2020-01-01T00:00:01Z")
        .with("aws:SecureTransport", "true")
        .with("key", "x")
        .with("x:blob", "QmluYXJ5VmFsdWVJbkJhc2U2NA==")
        .with("aws:SourceIp", "203.0.113.7")
        .with("aws:SourceArn", "arn:aws:sns:us-east-2:123456789012:my:topic");
    for yes in [
        r#"{"StringEquals":{"aws:PrincipalTag/job-category":"iamuser-admin"}}"#,
        r#"{"StringEquals":{"AWS:principaltag/JOB-category":["x","iamuser-admin"]}}"#,
        r#"{"StringNotEquals":{"aws:PrincipalTag/job-category":["iamuser","admin"]}}"#,
        r#"{"StringEqualsIgnoreCase":{"aws:PrincipalTag/job-category":"IAMUSER-Admin"}}"#,
        r#"{"StringNotEqualsIgnoreCase":{"aws:PrincipalTag/job-category":"x"}}"#,
        r#"{"StringLike":{"aws:PrincipalTag/job-category":"iamuser-?dmi*"}}"#,
        r#"{"StringNotLike":{"aws:PrincipalTag/job-category":["a*","b*"]}}"#,
        r#"{"NumericLessThanEquals":{"aws:MultiFactorAuthAge":"600"},"NumericLessThan":{"aws:MultiFactorAuthAge":601}}"#,
        r#"{"NumericGreaterThan":{"aws:MultiFactorAuthAge":"599.5"},"NumericGreaterThanEquals":{"aws:MultiFactorAuthAge":600}}"#,
        r#"{"NumericEquals":{"aws:MultiFactorAuthAge":"6e2"},"NumericNotEquals":{"aws:MultiFactorAuthAge":"6"}}"#,
        r#"{"DateGreaterThan":{"aws:TokenIssueTime":"2020-01-01T00:00:00Z"},"DateLessThan":{"aws:TokenIssueTime":"2020-01-01T02:00:02+02:00"}}"#,
        r#"{"DateEquals":{"aws:TokenIssueTime":"1577836801"},"DateNotEquals":{"aws:TokenIssueTime":"2020-01-01"}}"#,
        r#"{"DateLessThanEquals":{"aws:TokenIssueTime":"2020-01-02"},"DateGreaterThanEquals":{"aws:TokenIssueTime":"2019-12-31"}}"#,
        r#"{"Bool":{"aws:SecureTransport":"true"}}"#,
        r#"{"Bool":{"aws:SecureTransport":true}}"#,
        r#"{"BinaryEquals":{"x:blob":"QmluYXJ5VmFsdWVJbkJhc2U2NA=="}}"#,
        r#"{"IpAddress":{"aws:SourceIp":["198.51.100.0/24","203.0.113.0/24"]}}"#,
        r#"{"NotIpAddress":{"aws:SourceIp":["198.51.100.0/24","2001:db8::/32"]}}"#,
        r#"{"ArnEquals":{"aws:SourceArn":"arn:aws:sns:*:123456789012:my:*"}}"#,
        r#"{"ArnLike":{"aws:SourceArn":"arn:aws:sns:us-?ast-2:*:*"}}"#,
        r#"{"ArnNotEquals":{"aws:SourceArn":"arn:aws:sns:us-east-1:*:*"}}"#,
        r#"{"ArnNotLike":{"aws:SourceArn":"arn:aws:sns:us-east-*:*"}}"#,
        r#"{"Null":{"aws:TokenIssueTime":"false","aws:Absent":true}}"#,
        r#"{}"#,
        r#"{"StringEquals":{}}"#,
    ] {
        assert!(holds(yes, &keys), "{yes}");
    }
    for no in [
        r#"{"StringEquals":{"aws:PrincipalTag/job-category":"IAMUSER-admin"}}"#,
        r#"{"StringEquals":{"aws:PrincipalTag/job-category":"iamuser-*"}}"#,
        r#"{"StringNotEquals":{"aws:PrincipalTag/job-category":["x","iamuser-admin"]}}"#,
        r#"{"StringNotLike":{"aws:PrincipalTag/job-category":["a*","i*"]}}"#,
        r#"{"NumericEquals":{"aws:SourceIp":"203"}}"#,
        r#"{"Bool":{"aws:SecureTransport":"false"}}"#,
        r#"{"BinaryEquals":{"x:blob":"Qg=="}}"#,
        r#"{"IpAddress":{"aws:SourceIp":"203.0.113.0/30"}}"#,
        r#"{"NotIpAddress":{"aws:SourceIp":"203.0.113.7"}}"#,
        r#"{"ArnLike":{"aws:SourceArn":"arn:aws:sns:*:my:topic"}}"#,
        r#"{"Null":{"aws:TokenIssueTime":"true"}}"#,
        // All conditions must hold.
        r#"{"Bool":{"aws:SecureTransport":"true"},"StringEquals":{"aws:SourceIp":"1.1.1.1"}}"#,
        r#"{"StringEquals":{"aws:SourceIp":[]}}"#,
    ] {
        assert!(!holds(no, &keys), "{no}");
    }
}

#[test]
fn a_key_that_is_absent_decides_by_the_operator() {
    let keys = Keys::new();
    for yes in [
        r#"{"StringNotEquals":{"a:b":"x"}}"#,
        r#"{"StringNotLike":{"a:b":"*"}}"#,
        r#"{"NumericNotEquals":{"a:b":"1"}}"#,
        r#"{"DateNotEquals":{"a:b":"2020-01-01"}}"#,
        r#"{"NotIpAddress":{"a:b":"0.0.0.0/0"}}"#,
        r#"{"ArnNotLike":{"a:b":"*"}}"#,
        r#"{"StringEqualsIfExists":{"a:b":"x"}}"#,
        r#"{"BoolIfExists":{"a:b":"true"}}"#,
        r#"{"NumericLessThanIfExists":{"a:b":"1"}}"#,
        r#"{"IpAddressIfExists":{"a:b":"10.0.0.0/8"}}"#,
        r#"{"ForAllValues:StringEquals":{"a:b":"x"}}"#,
        r#"{"ForAnyValue:StringEqualsIfExists":{"a:b":"x"}}"#,
        r#"{"Null":{"a:b":"true"}}"#,
    ] {
        assert!(holds(yes, &keys), "{yes}");
    }
    for no in [
        r#"{"StringEquals":{"a:b":"x"}}"#,
        r#"{"StringLike":{"a:b":"*"}}"#,
        r#"{"Bool":{"a:b":"false"}}"#,
        r#"{"ForAnyValue:StringEquals":{"a:b":"x"}}"#,
        r#"{"ForAnyValue:StringNotEquals":{"a:b":"x"}}"#,
        r#"{"Null":{"a:b":"false"}}"#,
    ] {
        assert!(!holds(no, &keys), "{no}");
    }
    let present = Keys::new().with("a:b", "y");
    assert!(!holds(r#"{"StringEqualsIfExists":{"a:b":"x"}}"#, &present));
}

#[test]
fn set_operators_look_at_all_values_or_any() {
    let some = Keys::new().with_many("aws:TagKeys", ["environment", "webserver"]);
    let none = Keys::new().with_many("aws:TagKeys", Vec::<String>::new());
    let all_of = r#"{"ForAllValues:StringEquals":{"aws:TagKeys":["environment","cost-center","webserver"]}}"#;
    let any_of = r#"{"ForAnyValue:StringEquals":{"aws:TagKeys":["webserver"]}}"#;
    assert!(holds(all_of, &some) && holds(all_of, &none));
    assert!(holds(any_of, &some) && !holds(any_of, &none));
    assert!(!holds(r#"{"ForAllValues:StringEquals":{"aws:TagKeys":["environment"]}}"#, &some));
    assert!(holds(r#"{"ForAllValues:StringLike":{"aws:TagKeys":["env*","web*"]}}"#, &some));
    assert!(holds(r#"{"ForAllValues:StringNotEquals":{"aws:TagKeys":["a","b"]}}"#, &some));
    assert!(!holds(r#"{"ForAllValues:StringNotEquals":{"aws:TagKeys":["a","webserver"]}}"#, &some));
    assert!(holds(r#"{"ForAnyValue:StringNotEquals":{"aws:TagKeys":["webserver"]}}"#, &some));
    assert!(!holds(r#"{"ForAnyValue:StringNotLike":{"aws:TagKeys":["*"]}}"#, &some));
    assert!(
        holds(r#"{"Null":{"aws:TagKeys":"true"}}"#, &none)
            && holds(r#"{"Null":{"aws:TagKeys":"false"}}"#, &some)
    );
    // Without a set operator: "not" means none of them.
    assert!(!holds(r#"{"StringNotEquals":{"aws:TagKeys":"webserver"}}"#, &some));
}

#[test]
fn variables_are_filled_in_conditions_and_resources_of_the_newer_version_alone() {
    let keys = Keys::new()
        .with("aws:username", "carlos")
        .with("aws:PrincipalTag/department", "qa")
        .with("s3:prefix", "home/carlos/x");
    let condition = r#"{"StringLike":{"s3:prefix":["home/${aws:username}/*"]}}"#;
    assert!(holds(condition, &keys));
    let home = identity(&common::statement("Allow", "s3:*", "arn:aws:s3:::b/${aws:username}/*", "{}"));
    assert!(allowed(std::slice::from_ref(&home), "s3:GetObject", "arn:aws:s3:::b/carlos/x", &keys));
    assert!(!allowed(std::slice::from_ref(&home), "s3:GetObject", "arn:aws:s3:::b/alice/x", &keys));
    assert!(!allowed(&[home], "s3:GetObject", "arn:aws:s3:::b//x", &Keys::new()));
    let team = "arn:aws:s3:::b-${aws:PrincipalTag/team, 'company-wide'}/*";
    let team = identity(&common::statement("Allow", "s3:*", team, "{}"));
    assert!(allowed(std::slice::from_ref(&team), "s3:GetObject", "arn:aws:s3:::b-company-wide/x", &keys));
    let yellow = Keys::new().with("aws:PrincipalTag/team", "yellow");
    assert!(allowed(std::slice::from_ref(&team), "s3:GetObject", "arn:aws:s3:::b-yellow/x", &yellow));
    assert!(!allowed(&[team], "s3:GetObject", "arn:aws:s3:::b-company-wide/x", &yellow));
}
