//! `service.rs`: the trait, the route table and the dispatch.

use std::fmt::Write as _;

use anyhow::bail;

use super::super::Form;
use super::super::model::{OperationModel, Reference};
use super::super::names::{field, type_name};
use super::Emitter;

impl Emitter<'_> {
    pub(super) fn service(&self) -> anyhow::Result<String> {
        let service = self.settings.trait_name(self.name);
        let (mut methods, mut table, mut arms) = (String::new(), String::new(), String::new());
        for (index, (name, operation)) in self.operations.iter().enumerate() {
            let streams = self.has_event_stream(operation)?;
            let method = field(name);
            let full_name = format!("{}:{name}", self.name);
            let type_of = |reference: &Option<Reference>| {
                reference
                    .as_ref()
                    .map_or("()".to_owned(), |reference| format!("types::{}", type_name(&reference.shape)))
            };
            let input = type_of(&operation.input);
            let output = if streams { "()".to_owned() } else { type_of(&operation.output) };
            if streams {
                writeln!(
                    arms,
                    "// Its answer is an event stream, which no codec speaks yet.\n\
                     {index} => return Err(ApiError::not_implemented({full_name:?})),"
                )?;
            } else {
                writeln!(
                    methods,
                    "async fn {method}(&self, _context: &RequestContext, _input: {input}) -> Result<{output}, ApiError> {{\n\
                     Err(ApiError::not_implemented({full_name:?}))\n}}\n"
                )?;
                writeln!(arms, "{index} => Box::new(handler.{method}(context, take(input)?).await?),")?;
            }
            self.operation(&mut table, name, operation, &input, &output)?;
        }
        let model = self.model_expression(&table)?;
        Ok(format!(
            "//! The trait that the service implements, and the table by which requests find its methods.\n\
             //!\n//! {}\n\nuse std::sync::Arc;\n\nuse async_trait::async_trait;\n\
             use wharf_core::{{ApiError, RequestContext}};\n\
             use wharf_shape::{{CallFuture, Operation, Protocol, Service, ServiceModel, Structure, UNIT, Validation, ValidationForm, empty, take}};\n\n\
             use crate::{{shapes, types}};\n\n\
             /// One method for each operation. A method that is not written answers `NotImplemented`.\n\
             #[async_trait]\npub trait {service}: Send + Sync + 'static {{\n{methods}}}\n\n\
             /// The service behind a handler, for the pipeline.\n\
             pub fn service(handler: Arc<dyn {service}>) -> Arc<dyn Service> {{ Arc::new(Dispatch(handler)) }}\n\n\
             struct Dispatch(Arc<dyn {service}>);\n\n\
             impl Service for Dispatch {{\n\
             fn model(&self) -> &'static ServiceModel {{ &MODEL }}\n\n\
             fn call<'a>(&'a self, operation: usize, context: &'a RequestContext, input: Box<dyn Structure>) -> CallFuture<'a> {{\n\
             let handler = &*self.0;\n\
             Box::pin(async move {{\nlet output: Box<dyn Structure> = match operation {{\n{arms}\
             _ => return Err(ApiError::not_implemented(format_args!(\"operation {{operation}} of {}\"))),\n}};\nOk(output)\n}})\n}}\n}}\n\n{model}",
            self.header, self.name
        )
        .replace("UNIT, ", if table.contains("&UNIT") { "UNIT, " } else { "" }))
    }

    fn operation(
        &self,
        out: &mut String,
        name: &str,
        operation: &OperationModel,
        input: &str,
        output: &str,
    ) -> anyhow::Result<()> {
        let table = |reference: &Reference| format!("&shapes::{}", self.constant(&reference.shape));
        let action = self
            .settings
            .actions
            .get(name)
            .cloned()
            .unwrap_or_else(|| format!("{}:{name}", self.settings.action_prefix(self.name)));
        let errors: Vec<String> = operation
            .errors
            .iter()
            .map(|error| format!("&shapes::ERROR_{}", self.constant(&error.shape)))
            .collect();
        writeln!(
            out,
            "Operation {{ name: {name:?}, method: {:?}, uri: {:?}, action: {action:?}, input: {}, output: {}, \
             new_input: empty::<{input}>, new_output: empty::<{output}>, result_wrapper: {:?}, unsigned: {}, \
             validation_code: {:?}, errors: &[{}] }},",
            operation.http.method,
            operation.http.request_uri,
            operation.input.as_ref().map_or("&UNIT".to_owned(), table),
            operation
                .output
                .as_ref()
                .filter(|_| output != "()")
                .map_or("None".to_owned(), |output| format!("Some({})", table(output))),
            operation.output.as_ref().and_then(|output| output.result_wrapper.as_deref()),
            operation.authtype.as_deref() == Some("none"),
            self.settings.validation.operations.get(name),
            errors.join(", "),
        )?;
        Ok(())
    }

    fn model_expression(&self, operations: &str) -> anyhow::Result<String> {
        let metadata = &self.model.metadata;
        let protocol = match (metadata.protocol.as_str(), metadata.json_version.as_deref()) {
            ("json", Some("1.0")) => "AwsJson1_0",
            ("json", _) => "AwsJson1_1",
            ("query", _) => "Query",
            ("ec2", _) => "Ec2Query",
            (other, _) => bail!("no codec speaks the protocol {other} yet"),
        };
        let form = match self.settings.validation.form {
            Form::Constraint => "Constraint",
            Form::Ec2 => "Ec2",
        };
        Ok(format!(
            "/// Everything constant about the service.\n\
             pub static MODEL: ServiceModel = ServiceModel {{ name: {:?}, service_id: {:?}, endpoint_prefix: {:?}, \
             signing_name: {:?}, target_prefix: {:?}, api_version: {:?}, xml_namespace: {:?}, \
             protocol: Protocol::{protocol}, \
             validation: Validation {{ code: {:?}, form: ValidationForm::{form} }}, operations: &[{operations}] }};\n",
            self.name,
            metadata.service_id,
            metadata.endpoint_prefix,
            metadata.signing_name.as_ref().unwrap_or(&metadata.endpoint_prefix),
            metadata.target_prefix.as_deref().unwrap_or_default(),
            metadata.api_version,
            metadata.xml_namespace.as_deref().unwrap_or_default(),
            self.settings.validation.code,
        ))
    }
}
