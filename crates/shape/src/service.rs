//! A service as the pipeline sees it: its model, and one function that runs an operation.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;

use wharf_core::{ApiError, RequestContext};

use crate::table::{ErrorShape, StructureShape};
use crate::value::Structure;

/// The protocols that generated services speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    AwsJson1_0,
    AwsJson1_1,
    Query,
    Ec2Query,
}

/// Everything constant about a service.
#[derive(Debug)]
pub struct ServiceModel {
    /// The name of the service's folder, which is also botocore's: `ecs`.
    pub name: &'static str,
    /// `ECS`, `CloudWatch Logs`.
    pub service_id: &'static str,
    /// The first label of the host name: `ecs` of `ecs.us-east-1.amazonaws.com`.
    pub endpoint_prefix: &'static str,
    /// The service's name in a signature's credential scope.
    pub signing_name: &'static str,
    /// What stands before the dot of `X-Amz-Target`; empty for the protocols that have no target.
    pub target_prefix: &'static str,
    pub api_version: &'static str,
    /// Empty for the protocols without XML.
    pub xml_namespace: &'static str,
    pub protocol: Protocol,
    pub validation: Validation,
    /// Sorted by name. An operation is named elsewhere by its index in this list.
    pub operations: &'static [Operation],
}

impl ServiceModel {
    /// The index of the operation with this name.
    pub fn operation(&self, name: &str) -> Option<usize> {
        self.operations.binary_search_by(|operation| operation.name.cmp(name)).ok()
    }

    /// The error that the model has under this code, for its members' shapes.
    pub fn error(&self, operation: Option<&Operation>, code: &str) -> Option<&'static ErrorShape> {
        let of = |operation: &Operation| operation.errors.iter().copied().find(|error| error.code == code);
        match operation {
            Some(operation) => of(operation),
            None => self.operations.iter().find_map(of),
        }
    }
}

/// Everything constant about an operation.
#[derive(Clone, Copy)]
pub struct Operation {
    pub name: &'static str,
    pub method: &'static str,
    pub uri: &'static str,
    /// The IAM action: `ecs:RunTask`.
    pub action: &'static str,
    pub input: &'static StructureShape,
    /// `None` when the model has no output: the answer then has no body (JSON) or no result (XML).
    pub output: Option<&'static StructureShape>,
    /// An empty input, of the type that the handler takes.
    pub new_input: fn() -> Box<dyn Structure>,
    /// An empty output, of the type that the handler gives.
    pub new_output: fn() -> Box<dyn Structure>,
    /// Query: the element around the output's members.
    pub result_wrapper: Option<&'static str>,
    /// AWS takes it unsigned (`sts:AssumeRoleWithWebIdentity`).
    pub unsigned: bool,
    /// The code of a validation error, where it is not the service's.
    pub validation_code: Option<&'static str>,
    pub errors: &'static [&'static ErrorShape],
}

impl fmt::Debug for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Operation({})", self.action)
    }
}

/// How a service words an input that breaks a constraint of its model.
#[derive(Clone, Copy, Debug)]
pub struct Validation {
    pub code: &'static str,
    pub form: ValidationForm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValidationForm {
    /// `1 validation error detected: Value '' at 'taskDefinition' failed to satisfy constraint:
    /// Member must have length greater than or equal to 1`, the form of most services.
    Constraint,
    /// `The request must contain the parameter vpcId`, under EC2's own codes.
    Ec2,
}

/// A running operation.
pub type CallFuture<'a> = Pin<Box<dyn Future<Output = Result<Box<dyn Structure>, ApiError>> + Send + 'a>>;

/// What the pipeline dispatches on. Generated crates implement it in their `service` function.
pub trait Service: Send + Sync + 'static {
    fn model(&self) -> &'static ServiceModel;

    /// Runs the operation with this index in the model. `input` is of the type that the
    /// operation's `new_input` makes; decoded, validated and authorized.
    fn call<'a>(
        &'a self,
        operation: usize,
        context: &'a RequestContext,
        input: Box<dyn Structure>,
    ) -> CallFuture<'a>;
}

/// A mistake of ours: the pipeline gave an operation something that is not its input.
#[derive(Debug, thiserror::Error)]
#[error("the input of an operation is not {0}")]
struct WrongInput(&'static str);

/// An empty value, erased. For generated code: `new_input` and `new_output`.
pub fn empty<T: Structure + Default>() -> Box<dyn Structure> {
    Box::new(T::default())
}

/// The typed input within an erased one. For generated code.
///
/// # Errors
/// An internal error when the input is of another type.
pub fn take<T: Structure>(input: Box<dyn Structure>) -> Result<T, ApiError> {
    let input: Box<dyn Any> = input;
    match input.downcast() {
        Ok(input) => Ok(*input),
        Err(_) => Err(ApiError::internal(WrongInput(std::any::type_name::<T>()))),
    }
}
