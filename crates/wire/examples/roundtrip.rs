//! Decodes requests that botocore wrote and encodes them as answers that botocore reads: the other
//! half of `tests/roundtrip/test_roundtrip.py`.
//!
//! One JSON object a line, in and out. In: `{"service", "operation", "shape": "input" | "output",
//! "query", "body"}` (the body in base64). The request is decoded as the operation's input or
//! output, and encoded as an answer of that shape. Out: `{"status", "body", "missing"}`.
#![forbid(unsafe_code)]

use std::io::{BufRead as _, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use serde_json::{Value, json};
use wharf_core::{RequestId, SeededRng};
use wharf_shape::{Decoded, Operation, ServiceModel};
use wharf_wire::codec;

static MODELS: [&ServiceModel; 7] = [
    &wharf_ec2_api::MODEL,
    &wharf_ecs_api::MODEL,
    &wharf_iam_api::MODEL,
    &wharf_logs_api::MODEL,
    &wharf_secretsmanager_api::MODEL,
    &wharf_ssm_api::MODEL,
    &wharf_sts_api::MODEL,
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for line in std::io::stdin().lock().lines() {
        serde_json::to_writer(&mut out, &answer(&serde_json::from_str(&line?)?)?)?;
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

fn answer(case: &Value) -> Result<Value, Box<dyn std::error::Error>> {
    let text = |name: &str| case[name].as_str().ok_or_else(|| format!("no {name}"));
    let (service, name) = (text("service")?, text("operation")?);
    let model = MODELS.iter().find(|model| model.name == service).ok_or("an unknown service")?;
    let operation = &model.operations[model.operation(name).ok_or("an unknown operation")?];
    let body = STANDARD.decode(text("body")?)?;
    let headers = HeaderMap::new();
    let request = codec::Request { headers: &headers, query: text("query")?, body: &body };
    let new = if text("shape")? == "input" { operation.new_input } else { operation.new_output };

    let request_id = RequestId::random(&SeededRng::new(1));
    let mut value = new();
    let (missing, response) = match codec::decode_structure(model.protocol, &mut *value, &request) {
        Ok(missing) => {
            let shape = value.shape();
            let as_answer = Operation {
                output: Some(shape),
                result_wrapper: Some(operation.result_wrapper.unwrap_or("Result")),
                ..*operation
            };
            let response = codec::encode_output(model, &as_answer, request_id, &*value);
            // An input that is decoded is an input that can be validated: neither may panic.
            let decoded = Decoded { input: value, missing };
            let _ = wharf_shape::validate(model, operation, &decoded);
            (decoded.missing, response)
        }
        Err(error) => {
            let response =
                codec::encode_error(model.protocol, Some(model), Some(operation), request_id, &error);
            (Vec::new(), response)
        }
    };
    Ok(json!({ "status": response.status, "body": STANDARD.encode(response.body), "missing": missing }))
}
