//! AWS Query (Smithy, "AWS Query protocol"): forms in, XML out.

use wharf_core::{ApiError, Fault, RequestId};
use wharf_shape::{Operation, ServiceModel, Structure};

use super::form::{self, Dialect};
use super::xml::Writer;
use super::{Request, Response};

const CONTENT_TYPE: &str = "text/xml";

pub(super) fn decode(structure: &mut dyn Structure, request: &Request<'_>) -> Result<Vec<String>, ApiError> {
    form::decode(Dialect::Query, structure, request)
}

pub(super) fn encode_output(
    model: &ServiceModel,
    operation: &Operation,
    request_id: RequestId,
    output: &dyn Structure,
) -> Response {
    let mut xml = Writer::default();
    let root = format!("{}Response", operation.name);
    xml.open_with_namespace(&root, model.xml_namespace);
    if operation.output.is_some() {
        match operation.result_wrapper {
            Some(wrapper) => {
                xml.open(wrapper);
                xml.members(output);
                xml.close(wrapper);
            }
            None => xml.members(output),
        }
    }
    xml.open("ResponseMetadata");
    xml.text_element("RequestId", &request_id.to_string());
    xml.close("ResponseMetadata");
    xml.close(&root);
    Response { status: 200, content_type: CONTENT_TYPE, body: xml.finish() }
}

pub(super) fn encode_error(
    model: Option<&ServiceModel>,
    request_id: RequestId,
    error: &ApiError,
) -> Response {
    let mut xml = Writer::default();
    match model.map(|model| model.xml_namespace) {
        None | Some("") => xml.open("ErrorResponse"),
        Some(namespace) => xml.open_with_namespace("ErrorResponse", namespace),
    }
    xml.open("Error");
    xml.text_element("Type", if error.fault == Fault::Sender { "Sender" } else { "Receiver" });
    xml.text_element("Code", &error.code);
    xml.text_element("Message", &error.message);
    for (name, value) in &error.members {
        xml.text_element(name, value);
    }
    xml.close("Error");
    xml.text_element("RequestId", &request_id.to_string());
    xml.close("ErrorResponse");
    Response { status: error.status, content_type: CONTENT_TYPE, body: xml.finish() }
}
