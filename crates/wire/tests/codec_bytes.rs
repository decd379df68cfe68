//! The bytes of each protocol, on generated APIs: what clients other than botocore may rely on, and
//! what botocore does not send.

use http::HeaderMap;
use wharf_core::{ApiError, RequestId, SeededRng, Timestamp};
use wharf_ecs_api::types::{DescribeTasksResponse, ListTasksResponse, RegisterTaskDefinitionRequest, Task};
use wharf_logs_api::types::PutLogEventsRequest;
use wharf_shape::{Decoded, Operation, ServiceModel, Structure, take};
use wharf_sts_api::types::{AssumeRoleRequest, GetCallerIdentityResponse};
use wharf_wire::codec::{self, Response};

static ECS: &ServiceModel = &wharf_ecs_api::MODEL;
static EC2: &ServiceModel = &wharf_ec2_api::MODEL;
static LOGS: &ServiceModel = &wharf_logs_api::MODEL;
static STS: &ServiceModel = &wharf_sts_api::MODEL;

fn operation(model: &'static ServiceModel, name: &str) -> &'static Operation {
    &model.operations[model.operation(name).unwrap()]
}

fn decode(model: &'static ServiceModel, name: &str, body: &[u8]) -> Result<Decoded, ApiError> {
    let headers = HeaderMap::new();
    codec::decode(model, operation(model, name), &codec::Request { headers: &headers, query: "", body })
}

fn input<T: Structure>(model: &'static ServiceModel, name: &str, body: &[u8]) -> T {
    take(decode(model, name, body).unwrap().input).unwrap()
}

#[track_caller]
fn assert_refused(model: &'static ServiceModel, name: &str, body: &[u8], code: &str, message: &str) {
    let error = decode(model, name, body).unwrap_err();
    assert_eq!((&*error.code, error.status, &*error.message), (code, 400, message));
}

fn request_id() -> RequestId {
    RequestId::random(&SeededRng::new(1))
}

fn output(model: &'static ServiceModel, name: &str, output: &dyn Structure) -> Response {
    codec::encode_output(model, operation(model, name), request_id(), output)
}

fn error(model: &'static ServiceModel, name: &str, error: &ApiError) -> Response {
    codec::encode_error(model.protocol, Some(model), Some(operation(model, name)), request_id(), error)
}

fn text(response: &Response) -> &str {
    std::str::from_utf8(&response.body).unwrap()
}

#[test]
fn json_outputs_leave_out_what_is_not_set() {
    let tasks = ListTasksResponse { task_arns: Some(vec!["a\"\u{1}é".into()]), ..Default::default() };
    let response = output(ECS, "ListTasks", &tasks);
    assert_eq!((response.status, response.content_type), (200, "application/x-amz-json-1.1"));
    assert_eq!(text(&response), r#"{"taskArns":["a\"\u0001é"]}"#);

    let task = Task {
        created_at: Some(Timestamp::from_millis(1_700_000_000_123)),
        started_at: Some(Timestamp::from_millis(1_700_000_000_000)),
        version: Some(-5),
        ..Default::default()
    };
    let tasks =
        DescribeTasksResponse { tasks: Some(vec![task, Task::default()]), failures: Some(Vec::new()) };
    assert_eq!(
        text(&output(ECS, "DescribeTasks", &tasks)),
        r#"{"failures":[],"tasks":[{"createdAt":1700000000.123,"startedAt":1700000000,"version":-5},{}]}"#
    );
}

#[test]
fn an_operation_without_output_has_an_empty_json_body() {
    assert_eq!(text(&output(LOGS, "PutRetentionPolicy", &())), "");
}

#[test]
fn json_errors_have_their_type_their_message_and_their_members() {
    let not_found = wharf_ecs_api::errors::cluster_not_found_exception("Cluster not found.");
    let response = error(ECS, "RunTask", &not_found);
    assert_eq!((response.status, response.content_type), (400, "application/x-amz-json-1.1"));
    assert_eq!(text(&response), r#"{"__type":"ClusterNotFoundException","message":"Cluster not found."}"#);

    let conflict = ApiError::sender("ConflictException", "In use.")
        .with_member("resourceIds", "one")
        .with_member("resourceIds", "two");
    assert_eq!(
        text(&error(ECS, "RunTask", &conflict)),
        r#"{"__type":"ConflictException","message":"In use.","resourceIds":["one","two"]}"#
    );
    let response = error(ECS, "RunTask", &ApiError::not_implemented("ecs:RunTask"));
    assert_eq!(response.status, 501);
}

#[test]
fn an_error_is_encoded_when_nothing_is_known_of_the_request() {
    let refusal = ApiError::sender("MissingAuthenticationToken", "Missing <token>");
    for model in [ECS, STS, EC2] {
        let response = codec::encode_error(model.protocol, None, None, request_id(), &refusal);
        assert!(text(&response).contains("MissingAuthenticationToken"), "{}", text(&response));
    }
}

#[test]
fn json_inputs_ignore_what_is_unknown_and_take_null_as_absent() {
    let body = br#" {"family":"web","unknown":{"deep":[1,null,"x"]},"cpu":null,
        "containerDefinitions":[{"name":"a\ud83d\ude00","environment":[{"name":"A","value":"1"}],
        "dockerLabels":{"k":"v"},"essential":true,"memory":1e2}]} "#;
    let decoded = decode(ECS, "RegisterTaskDefinition", body).unwrap();
    assert_eq!(decoded.missing, [""; 0]);
    let input: RegisterTaskDefinitionRequest = take(decoded.input).unwrap();
    assert_eq!((input.family.as_str(), &input.cpu), ("web", &None));
    let container = &input.container_definitions[0];
    assert_eq!(container.name.as_deref(), Some("a😀"));
    assert_eq!((container.essential, container.memory), (Some(true), Some(100)));
    assert_eq!(container.docker_labels.as_ref().unwrap()["k"], "v");
}

#[test]
fn required_members_that_are_absent_or_null_are_told_by_their_paths() {
    let body = br#"{"containerDefinitions":[{"dependsOn":[{"condition":"START"}]},null]}"#;
    let decoded = decode(ECS, "RegisterTaskDefinition", body).unwrap();
    assert_eq!(
        decoded.missing,
        [
            "containerDefinitions.1.member.dependsOn.1.member.containerName",
            "containerDefinitions.2.member",
            "family"
        ]
    );
    let error = wharf_shape::validate(ECS, operation(ECS, "RegisterTaskDefinition"), &decoded).unwrap_err();
    assert_eq!(error.code, "ClientException");
    assert!(error.message.starts_with("3 validation errors detected: Value null at "), "{}", error.message);
    assert_eq!(
        decode(STS, "AssumeRole", b"Action=AssumeRole&RoleArn=x").unwrap().missing,
        ["roleSessionName"]
    );
}

#[test]
fn json_values_of_the_wrong_type_are_serialization_exceptions() {
    for (body, message) in [
        (&br#"{"tasks":[1]}"#[..], "NUMBER_VALUE cannot be converted to String"),
        (br#"{"tasks":"a"}"#, "Expected list or null"),
        (br#"{"cluster":["a"]}"#, "Start of list found where not expected"),
        (br#"{"cluster":{}}"#, "Start of structure or map found where not expected"),
        (br#"{"cluster":"a","cluster":"b"}"#, "The field \"cluster\" occurs twice."),
        (br#"{"cluster":"a"#, "The request body is not valid JSON, at byte 13."),
        (b"{\"cluster\":\"\xff\"}", "The request body is not valid UTF-8."),
        (br#"[]"#, "Start of list found where not expected"),
    ] {
        assert_refused(ECS, "DescribeTasks", body, "SerializationException", message);
    }
    assert_refused(
        ECS,
        "RunTask",
        br#"{"count":"1"}"#,
        "SerializationException",
        "STRING_VALUE cannot be converted to Integer",
    );
}

#[test]
fn what_would_take_more_memory_than_it_says_is_refused() {
    let items = format!(r#"{{"containerDefinitions":[{}{{}}]}}"#, "{},".repeat(50_000));
    assert_refused(
        ECS,
        "RegisterTaskDefinition",
        items.as_bytes(),
        "SerializationException",
        "The request body has more than 20000 items.",
    );
    // As many events as AWS takes are taken.
    let event = r#"{"timestamp":1,"message":"m"}"#;
    let events = format!(
        r#"{{"logGroupName":"g","logStreamName":"s","logEvents":[{}{event}]}}"#,
        format!("{event},").repeat(9_999)
    );
    let input: PutLogEventsRequest = input(LOGS, "PutLogEvents", events.as_bytes());
    assert_eq!(input.log_events.len(), 10_000);

    // The number in a name takes no memory, and sparse lists close up in their order.
    let form = b"Tags.member.4294967295.Key=last&Tags.member.4294967295.Value=b&Tags.member.7.Key=first\
                 &Tags.member.7.Value=&RoleArn=r&RoleSessionName=s";
    let input: AssumeRoleRequest = self::input(STS, "AssumeRole", form);
    let tags = input.tags.unwrap();
    assert_eq!(tags.iter().map(|tag| tag.key.as_str()).collect::<Vec<_>>(), ["first", "last"]);
}

#[test]
fn query_outputs_have_their_envelope() {
    let identity = GetCallerIdentityResponse {
        account: Some("000000000000".into()),
        arn: Some("arn:aws:iam::000000000000:root".into()),
        user_id: Some("<&>".into()),
    };
    let response = output(STS, "GetCallerIdentity", &identity);
    assert_eq!((response.status, response.content_type), (200, "text/xml"));
    assert_eq!(
        text(&response),
        format!(
            "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
             <GetCallerIdentityResult><Account>000000000000</Account><Arn>arn:aws:iam::000000000000:root</Arn>\
             <UserId>&lt;&amp;&gt;</UserId></GetCallerIdentityResult>\
             <ResponseMetadata><RequestId>{}</RequestId></ResponseMetadata></GetCallerIdentityResponse>",
            request_id()
        )
    );
}

#[test]
fn query_errors_have_their_envelope() {
    let response = error(STS, "AssumeRole", &ApiError::sender("AccessDenied", "No & no.").with_status(403));
    assert_eq!((response.status, response.content_type), (403, "text/xml"));
    assert_eq!(
        text(&response),
        format!(
            "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
             <Code>AccessDenied</Code><Message>No &amp; no.</Message></Error><RequestId>{}</RequestId></ErrorResponse>",
            request_id()
        )
    );
}

#[test]
fn ec2_has_its_own_envelopes() {
    use wharf_ec2_api::types::{DescribeVpcsResult, Vpc};
    let vpcs = DescribeVpcsResult {
        vpcs: Some(vec![Vpc { vpc_id: Some("vpc-1".into()), ..Default::default() }]),
        ..Default::default()
    };
    let response = output(EC2, "DescribeVpcs", &vpcs);
    assert_eq!(
        text(&response),
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <DescribeVpcsResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>{}</requestId>\
             <vpcSet><item><vpcId>vpc-1</vpcId></item></vpcSet></DescribeVpcsResponse>",
            request_id()
        )
    );
    let response = error(EC2, "DescribeVpcs", &ApiError::sender("InvalidVpcID.NotFound", "No such VPC."));
    assert_eq!(
        text(&response),
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Errors><Error><Code>InvalidVpcID.NotFound</Code>\
             <Message>No such VPC.</Message></Error></Errors><RequestID>{}</RequestID></Response>",
            request_id()
        )
    );
}

#[test]
fn ec2_reads_its_names_from_the_form_and_the_query_string_and_refuses_others() {
    use wharf_ec2_api::types::DescribeVpcsRequest;
    let headers = HeaderMap::new();
    let request = codec::Request {
        headers: &headers,
        query: "Action=DescribeVpcs&Version=2016-11-15&VpcId.1=vpc-1",
        body: b"VpcId.2=vpc-2&Filter.1.Name=cidr&Filter.1.Value.1=10.0.0.0%2F8&MaxResults=5",
    };
    let decoded = codec::decode(EC2, operation(EC2, "DescribeVpcs"), &request).unwrap();
    let input: DescribeVpcsRequest = take(decoded.input).unwrap();
    assert_eq!(input.vpc_ids.unwrap(), ["vpc-1", "vpc-2"]);
    let filter = &input.filters.unwrap()[0];
    assert_eq!(
        (filter.name.as_deref(), filter.values.as_deref()),
        (Some("cidr"), Some(&["10.0.0.0/8".to_owned()][..]))
    );
    assert_eq!(input.max_results, Some(5));
    assert_refused(
        EC2,
        "DescribeVpcs",
        b"VpcIdd.1=x",
        "UnknownParameter",
        "The parameter VpcIdd.1 is not recognized",
    );
    assert_refused(
        EC2,
        "DescribeVpcs",
        b"MaxResults=many",
        "InvalidParameterValue",
        "Value (many) for parameter MaxResults is invalid. It must be an integer.",
    );
}

#[test]
fn malformed_forms_are_refused() {
    for (body, message) in [
        (&b"RoleArn=%4"[..], "The query string contains a syntax error."),
        (b"RoleArn=%ff", "The query string contains a syntax error."),
        (b"RoleArn=a&RoleArn=b", "The parameter RoleArn occurs twice."),
        (b"Tags.member.x.Key=a", "The parameter Tags.member.x.Key is not the item of a list."),
        (b"Tags.member.01.Key=a", "The parameter Tags.member.01.Key is not the item of a list."),
    ] {
        assert_refused(STS, "AssumeRole", body, "MalformedQueryString", message);
    }
}
