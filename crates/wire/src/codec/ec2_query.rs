//! EC2 Query (Smithy, "AWS EC2 Query protocol"): Query with flattened lists, other names, and
//! another envelope.

use wharf_core::{ApiError, RequestId};
use wharf_shape::{Operation, ServiceModel, Structure};

use super::form::{self, Dialect};
use super::xml::{DECLARATION, Writer};
use super::{Request, Response};

const CONTENT_TYPE: &str = "text/xml;charset=UTF-8";

pub(super) fn decode(structure: &mut dyn Structure, request: &Request<'_>) -> Result<Vec<String>, ApiError> {
    form::decode(Dialect::Ec2, structure, request)
}

pub(super) fn encode_output(
    model: &ServiceModel,
    operation: &Operation,
    request_id: RequestId,
    output: &dyn Structure,
) -> Response {
    let mut xml = Writer::default();
    let root = format!("{}Response", operation.name);
    xml.raw(DECLARATION);
    xml.open_with_namespace(&root, model.xml_namespace);
    xml.text_element("requestId", &request_id.to_string());
    if operation.output.is_some() {
        xml.members(output);
    }
    xml.close(&root);
    Response { status: 200, content_type: CONTENT_TYPE, body: xml.finish() }
}

pub(super) fn encode_error(request_id: RequestId, error: &ApiError) -> Response {
    let mut xml = Writer::default();
    xml.raw(DECLARATION);
    xml.open("Response");
    xml.open("Errors");
    xml.open("Error");
    xml.text_element("Code", &error.code);
    xml.text_element("Message", &error.message);
    for (name, value) in &error.members {
        xml.text_element(name, value);
    }
    xml.close("Error");
    xml.close("Errors");
    xml.text_element("RequestID", &request_id.to_string());
    xml.close("Response");
    Response { status: error.status, content_type: CONTENT_TYPE, body: xml.finish() }
}
