//! Validation, on a table written by hand, against sentences that AWS is known to answer with.

use std::collections::BTreeMap;

use wharf_core::ApiError;
use wharf_shape::{
    Decoded, ListShape, MapShape, Member, NumberShape, Operation, Pattern, Protocol, ServiceModel, Shape,
    Slot, StringShape, Structure, StructureShape, Validation, ValidationForm, Value, View, empty, validate,
};

static NAME_PATTERN: Pattern = Pattern::new(r"[\.\-_/#A-Za-z0-9]+");
static NAME: StringShape =
    StringShape { min: Some(1), max: Some(5), pattern: Some(&NAME_PATTERN), values: &[], sensitive: false };
static SECRET: StringShape = StringShape { min: Some(3), sensitive: true, ..StringShape::ANY };
static KIND: StringShape = StringShape { values: &["EC2", "FARGATE"], ..StringShape::ANY };
static COUNT: NumberShape = NumberShape { min: Some(1.0), max: Some(10.0) };
static NAMES: ListShape =
    ListShape { member: Shape::String(&NAME), member_name: None, flattened: false, min: None, max: Some(2) };
static NESTED: ListShape =
    ListShape { member: Shape::Structure(&INPUT), member_name: None, flattened: false, min: None, max: None };
static TAGS: MapShape = MapShape {
    key: Shape::String(&NAME),
    value: Shape::String(&NAME),
    key_name: None,
    value_name: None,
    flattened: false,
    min: None,
    max: None,
};
static INPUT: StructureShape = StructureShape {
    name: "Input",
    union: false,
    members: &[
        Member::new("Name", Shape::String(&NAME)).required(),
        Member::new("kind", Shape::String(&KIND)),
        Member::new("count", Shape::Integer(&COUNT)),
        Member::new("names", Shape::List(&NAMES)),
        Member::new("nested", Shape::List(&NESTED)),
        Member::new("tags", Shape::Map(&TAGS)),
        Member::new("secret", Shape::String(&SECRET)),
    ],
};

#[derive(Clone, Debug, Default, PartialEq)]
struct Input {
    name: String,
    kind: Option<String>,
    count: Option<i32>,
    names: Option<Vec<String>>,
    nested: Option<Vec<Input>>,
    tags: Option<BTreeMap<String, String>>,
    secret: Option<String>,
}

impl Structure for Input {
    fn shape(&self) -> &'static StructureShape {
        &INPUT
    }

    fn member(&self, index: usize) -> View<'_> {
        match index {
            0 => self.name.view(),
            1 => self.kind.view(),
            2 => self.count.view(),
            3 => self.names.view(),
            4 => self.nested.view(),
            5 => self.tags.view(),
            6 => self.secret.view(),
            _ => View::Absent,
        }
    }

    fn member_mut(&mut self, _index: usize) -> Option<Slot<'_>> {
        None
    }
}

static OPERATION: Operation = Operation {
    name: "Try",
    method: "POST",
    uri: "/",
    action: "test:Try",
    input: &INPUT,
    output: None,
    new_input: empty::<Input>,
    new_output: empty::<()>,
    result_wrapper: None,
    unsigned: false,
    validation_code: None,
    errors: &[],
};

fn model(form: ValidationForm) -> ServiceModel {
    ServiceModel {
        name: "test",
        service_id: "Test",
        endpoint_prefix: "test",
        signing_name: "test",
        target_prefix: "Test",
        api_version: "2026-11-20",
        xml_namespace: "",
        protocol: Protocol::AwsJson1_1,
        validation: Validation { code: "InvalidParameterException", form },
        operations: &[],
    }
}

fn error_of(form: ValidationForm, input: Input, missing: &[&str]) -> ApiError {
    let missing = missing.iter().map(|path| (*path).to_owned()).collect();
    validate(&model(form), &OPERATION, &Decoded { input: Box::new(input), missing }).unwrap_err()
}

#[track_caller]
fn assert_error(input: Input, missing: &[&str], expected: &str) {
    let error = error_of(ValidationForm::Constraint, input, missing);
    assert_eq!((&*error.code, error.status), ("InvalidParameterException", 400));
    assert_eq!(error.message, expected);
}

fn good() -> Input {
    Input { name: "a".into(), ..Input::default() }
}

#[test]
fn what_keeps_the_model_passes() {
    let input = Input {
        kind: Some("EC2".into()),
        count: Some(10),
        names: Some(vec!["a".into(), "b".into()]),
        nested: Some(vec![good()]),
        tags: Some(BTreeMap::from([("k".into(), "v".into())])),
        secret: Some("long enough".into()),
        ..good()
    };
    let decoded = Decoded { input: Box::new(input), missing: Vec::new() };
    validate(&model(ValidationForm::Constraint), &OPERATION, &decoded).unwrap();
}

#[test]
fn a_missing_member_is_null_and_is_not_checked_again() {
    assert_error(
        Input::default(),
        &["name"],
        "1 validation error detected: Value null at 'name' failed to satisfy constraint: Member must not be null",
    );
}

#[test]
fn scalars_are_checked() {
    assert_error(
        Input { kind: Some("LAMBDA".into()), count: Some(0), ..good() },
        &[],
        "2 validation errors detected: \
         Value 'LAMBDA' at 'kind' failed to satisfy constraint: Member must satisfy enum value set: [EC2, FARGATE]; \
         Value '0' at 'count' failed to satisfy constraint: Member must have value greater than or equal to 1",
    );
    assert_error(
        Input { name: "a b".into(), count: Some(11), ..good() },
        &[],
        "2 validation errors detected: \
         Value 'a b' at 'name' failed to satisfy constraint: \
         Member must satisfy regular expression pattern: [\\.\\-_/#A-Za-z0-9]+; \
         Value '11' at 'count' failed to satisfy constraint: Member must have value less than or equal to 10",
    );
}

#[test]
fn a_sensitive_value_is_not_repeated() {
    assert_error(
        Input { secret: Some("x".into()), ..good() },
        &[],
        "1 validation error detected: Value at 'secret' failed to satisfy constraint: \
         Member must have length greater than or equal to 3",
    );
}

#[test]
fn lists_and_maps_name_all_constraints_of_their_scalars_once() {
    let all = "[Member must have length less than or equal to 5, \
               Member must have length greater than or equal to 1, \
               Member must satisfy regular expression pattern: [\\.\\-_/#A-Za-z0-9]+]";
    assert_error(
        Input { names: Some(vec!["a".into(), String::new(), "too long".into()]), ..good() },
        &[],
        &format!(
            "2 validation errors detected: \
             Value '[a, , too long]' at 'names' failed to satisfy constraint: Member must have length less than or equal to 2; \
             Value '[a, , too long]' at 'names' failed to satisfy constraint: Member must satisfy constraint: {all}"
        ),
    );
    assert_error(
        Input { tags: Some(BTreeMap::from([("bad key".into(), "v".into())])), ..good() },
        &[],
        &format!(
            "1 validation error detected: Value '{{bad key=v}}' at 'tags' failed to satisfy constraint: \
             Map keys must satisfy constraint: {all}"
        ),
    );
    assert_error(
        Input { tags: Some(BTreeMap::from([("k".into(), "bad value".into())])), ..good() },
        &[],
        &format!(
            "1 validation error detected: Value '{{k=bad value}}' at 'tags' failed to satisfy constraint: \
             Map value must satisfy constraint: {all}"
        ),
    );
}

#[test]
fn items_are_counted_from_one() {
    let nested = vec![good(), Input { count: Some(99), ..good() }];
    assert_error(
        Input { nested: Some(nested), ..good() },
        &[],
        "1 validation error detected: Value '99' at 'nested.2.member.count' failed to satisfy constraint: \
         Member must have value less than or equal to 10",
    );
}

#[test]
fn ec2_has_its_own_words() {
    let error = error_of(ValidationForm::Ec2, Input::default(), &["vpcId", "name"]);
    assert_eq!(
        (&*error.code, &*error.message),
        ("MissingParameter", "The request must contain the parameter vpcId")
    );
    let error = error_of(ValidationForm::Ec2, Input { count: Some(0), ..good() }, &[]);
    assert_eq!(
        error.message,
        "Value ( 0 ) for parameter count is invalid. Expecting a value greater than 1."
    );
}
