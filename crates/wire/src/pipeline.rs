//! The request pipeline: one ordered list, so that no step can be forgotten by a handler.
//!
//! service → authenticate → operation → decode → validate → authorize → throttle → handler →
//! encode → record
//!
//! [`Pipeline::answer`] is that list. A step takes what the steps before it have found and gives
//! what it found itself, or an [`ApiError`], which ends the list and is encoded in the protocol of
//! the service. Recording happens for every call, whatever became of it.

use std::any::Any;
use std::borrow::Cow;
use std::future::Future;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header, request};
use http_body_util::Full;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;
use wharf_contracts::{
    AuthorizationRequest, Authorizer, CredentialSource, Decision, Denial, DenialEncoder, OperationRequest,
    Reach, RequestFacts, Required, ServiceAuthorization, Transport,
};
use wharf_core::limits::REQUESTS_IN_FLIGHT_MAX;
use wharf_core::{ApiError, Clock, RequestContext, RequestId, Rng, Scope, Timestamp};
use wharf_shape::{Operation, Protocol, Service, ServiceModel, Structure};

use crate::codec;
use crate::observe::{CallObserver, CallRecord};
use crate::route;
use crate::sigv4::{Claim, Policy, SignatureError, SignedParts, Verified, Verifier};

/// The body of every answer.
pub type Body = Full<Bytes>;

/// A service and what the pipeline has to know of it beside its model. There is none without its
/// table of what IAM has to be asked.
pub struct Registration {
    service: Arc<dyn Service>,
    authorization: Arc<dyn ServiceAuthorization>,
}

impl Registration {
    pub fn with_authorization(
        service: Arc<dyn Service>,
        authorization: Arc<dyn ServiceAuthorization>,
    ) -> Self {
        Self { service, authorization }
    }

    pub fn service(&self) -> &Arc<dyn Service> {
        &self.service
    }

    pub fn authorization(&self) -> &Arc<dyn ServiceAuthorization> {
        &self.authorization
    }
}

/// What the pipeline stands on.
pub struct PipelineParts {
    pub services: Vec<Registration>,
    pub credentials: Arc<dyn CredentialSource>,
    pub authorizer: Arc<dyn Authorizer>,
    /// Makes the encoded messages that EC2's denials carry; `None`: they carry none.
    pub denials: Option<Arc<dyn DenialEncoder>>,
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<dyn Rng>,
    pub observers: Vec<Arc<dyn CallObserver>>,
}

/// Everything between an HTTP request and its answer.
pub struct Pipeline {
    services: Vec<Registration>,
    models: Vec<&'static ServiceModel>,
    verifier: Verifier,
    authorizer: Arc<dyn Authorizer>,
    denials: Option<Arc<dyn DenialEncoder>>,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    observers: Vec<Arc<dyn CallObserver>>,
    in_flight: Semaphore,
    in_flight_max: usize,
}

/// What is known of a call so far, for the record and for the form of an error.
struct Call {
    request_id: RequestId,
    request_id_text: String,
    source_ip: IpAddr,
    at: Timestamp,
    protocol: Protocol,
    model: Option<&'static ServiceModel>,
    operation: Option<&'static Operation>,
    verified: Option<Verified>,
}

/// A step or a handler died. The caller sees `InternalFailure`; the message goes to the log.
#[derive(Debug, thiserror::Error)]
#[error("panicked: {0}")]
struct Panicked(String);

impl Pipeline {
    pub fn new(parts: PipelineParts) -> Arc<Self> {
        Self::with_in_flight_max(parts, REQUESTS_IN_FLIGHT_MAX)
    }

    /// As [`Pipeline::new`], with another bound on the calls that run at once.
    pub fn with_in_flight_max(parts: PipelineParts, in_flight_max: usize) -> Arc<Self> {
        Arc::new(Self {
            models: parts.services.iter().map(|registration| registration.service.model()).collect(),
            services: parts.services,
            verifier: Verifier::new(parts.credentials),
            authorizer: parts.authorizer,
            denials: parts.denials,
            clock: parts.clock,
            rng: parts.rng,
            observers: parts.observers,
            in_flight: Semaphore::new(in_flight_max),
            in_flight_max,
        })
    }

    /// The names of the services, such as `ecs`.
    pub fn service_names(&self) -> Vec<&'static str> {
        self.models.iter().map(|model| model.name).collect()
    }

    /// Answers a request whose body has been read. A call that has begun runs to its end even when
    /// the future is dropped because the caller went away: no handler stops half-way.
    pub fn handle(
        self: &Arc<Self>,
        head: request::Parts,
        body: Bytes,
        source_ip: IpAddr,
    ) -> impl Future<Output = Response<Body>> + Send + use<> {
        let pipeline = Arc::clone(self);
        RunToEnd(Some(Box::pin(async move {
            let (mut call, started) = pipeline.begin(source_ip);
            // A panic is an internal error of this call and of no other. A service guards its state
            // by transactions, which a panic rolls back.
            let result = AssertUnwindSafe(pipeline.answer(&mut call, &head, &body))
                .catch_unwind()
                .await
                .unwrap_or_else(|panic| Err(ApiError::internal(Panicked(panic_message(&*panic)))));
            pipeline.end(&call, result, started)
        })))
    }

    /// Resolves when no call is running any more, those included whose callers have gone. No call
    /// begins while this waits: it is for the end of the process.
    pub async fn idle(&self) {
        let all = u32::try_from(self.in_flight_max).unwrap_or(u32::MAX);
        // The semaphore is never closed.
        let _ = self.in_flight.acquire_many(all).await;
    }

    /// Answers a request that could not be read: in the protocol of the service that it is
    /// probably for, with a request id, recorded like any other. The code of `error` is that of the
    /// Query protocols, without `Exception`.
    pub fn refuse(&self, head: &request::Parts, mut error: ApiError, source_ip: IpAddr) -> Response<Body> {
        let (mut call, started) = self.begin(source_ip);
        let parts = signed_parts(head, b"");
        let claim = Claim::read(&parts).ok().flatten();
        match route::find_service(&self.models, &parts, claim.as_ref()) {
            Ok(index) => {
                call.model = Some(self.models[index]);
                call.protocol = self.models[index].protocol;
            }
            Err(_) => call.protocol = route::likely_protocol(&parts, claim.as_ref()),
        }
        // The codes of AWS JSON end so; those of Query do not.
        if matches!(call.protocol, Protocol::AwsJson1_0 | Protocol::AwsJson1_1) {
            error.code = format!("{}Exception", error.code).into();
        }
        self.end(&call, Err(error), started)
    }

    /// The list.
    async fn answer(
        &self,
        call: &mut Call,
        head: &request::Parts,
        body: &[u8],
    ) -> Result<codec::Response, ApiError> {
        let parts = signed_parts(head, body);

        let (registration, claim) = self.service(call, &parts)?;
        let verified = self.authenticate(call, &parts, claim.as_ref())?;
        let (index, operation) = match_operation(call, &parts)?;
        let model = registration.service.model();
        let codec_request = codec::Request { headers: parts.headers, query: parts.query, body: parts.body };
        let decoded = codec::decode(model, operation, &codec_request)?;
        wharf_shape::validate(model, operation, &decoded)?;
        let context = context(call, verified);
        self.authorize(registration, operation, &context, &*decoded.input, parts.headers)?;
        let permit = self.throttle(call.protocol)?;
        let output = registration.service.call(index, &context, decoded.input).await?;
        drop(permit);
        Ok(codec::encode_output(model, operation, call.request_id, &*output))
    }

    fn service<'p>(
        &self,
        call: &mut Call,
        parts: &SignedParts<'p>,
    ) -> Result<(&Registration, Option<Claim<'p>>), ApiError> {
        let claim = Claim::read(parts);
        let readable = claim.as_ref().ok().and_then(Option::as_ref);
        let index = match route::find_service(&self.models, parts, readable) {
            Ok(index) => index,
            Err(unknown) => {
                call.protocol = route::likely_protocol(parts, readable);
                // A signature that cannot be read is the better thing to complain of.
                return Err(
                    claim.map_or_else(|unreadable| unreadable.to_api_error(call.protocol), |_| unknown)
                );
            }
        };
        call.model = Some(self.models[index]);
        call.protocol = self.models[index].protocol;
        let claim = claim.map_err(|error| error.to_api_error(call.protocol))?;
        Ok((&self.services[index], claim))
    }

    fn authenticate(
        &self,
        call: &mut Call,
        parts: &SignedParts<'_>,
        claim: Option<&Claim<'_>>,
    ) -> Result<Verified, ApiError> {
        let Some(model) = call.model else { return Err(SignatureError::Missing.to_api_error(call.protocol)) };
        let Some(claim) = claim else {
            // AWS takes a few operations unsigned: their callers have no identity yet, and what they
            // show is judged by the handler.
            return match route::find_operation(model, parts).map(|index| &model.operations[index]) {
                Ok(operation) if operation.unsigned => Ok(Verified::anonymous()),
                _ => Err(SignatureError::Missing.to_api_error(call.protocol)),
            };
        };
        let policy = Policy::of(model.signing_name);
        let verified = self
            .verifier
            .verify(claim, parts, model.signing_name, policy, call.at)
            .map_err(|error| error.to_api_error(call.protocol))?;
        call.verified = Some(verified.clone());
        Ok(verified)
    }

    fn authorize(
        &self,
        registration: &Registration,
        operation: &'static Operation,
        context: &RequestContext,
        input: &dyn Structure,
        headers: &HeaderMap,
    ) -> Result<(), ApiError> {
        let authorization = &registration.authorization;
        if context.principal.is_root()
            && context.principal.account() == context.account()
            && authorization.reach(operation) == Reach::OwnAccount
        {
            return Ok(());
        }
        let checks = match authorization.required(&OperationRequest { context, operation, input })? {
            Required::Nothing => return Ok(()),
            Required::All(checks) => checks,
        };
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let facts = RequestFacts {
            user_agent: text(header::USER_AGENT),
            referer: text(header::REFERER),
            transport: Transport::Plain,
            called_via: &[],
        };
        match self.authorizer.decide(&AuthorizationRequest { context, checks: &checks, facts: &facts }) {
            Decision::Allow => Ok(()),
            Decision::Deny(denial) => {
                Err(self.denied(registration.service.model().protocol, context, &denial))
            }
        }
    }

    /// The denial in the protocol's own code; EC2's with the details that only some may decode.
    fn denied(&self, protocol: Protocol, context: &RequestContext, denial: &Denial) -> ApiError {
        let message = &denial.message;
        match protocol {
            Protocol::AwsJson1_0 | Protocol::AwsJson1_1 => {
                ApiError::sender("AccessDeniedException", message.as_str())
            }
            Protocol::Query => ApiError::sender("AccessDenied", message.as_str()).with_status(403),
            Protocol::Ec2Query => {
                let encoded = self
                    .denials
                    .as_ref()
                    .filter(|_| !denial.details.is_empty())
                    .and_then(|denials| denials.encode(context.account(), &denial.details))
                    .map(|encoded| format!(" Encoded authorization failure message: {encoded}"))
                    .unwrap_or_default();
                ApiError::sender(
                    "UnauthorizedOperation",
                    format!("You are not authorized to perform this operation. {message}{encoded}"),
                )
                .with_status(403)
            }
        }
    }

    fn throttle(&self, protocol: Protocol) -> Result<SemaphorePermit<'_>, ApiError> {
        self.in_flight.try_acquire().map_err(|_| match protocol {
            Protocol::AwsJson1_0 | Protocol::AwsJson1_1 => {
                ApiError::sender("ThrottlingException", "Rate exceeded")
            }
            Protocol::Query => ApiError::sender("Throttling", "Rate exceeded"),
            Protocol::Ec2Query => {
                ApiError::sender("RequestLimitExceeded", "Request limit exceeded.").with_status(503)
            }
        })
    }

    fn begin(&self, source_ip: IpAddr) -> (Call, Instant) {
        let request_id = RequestId::random(&*self.rng);
        let call = Call {
            request_id,
            request_id_text: request_id.to_string(),
            source_ip,
            at: self.clock.now(),
            protocol: Protocol::AwsJson1_1,
            model: None,
            operation: None,
            verified: None,
        };
        (call, Instant::now())
    }

    /// Encodes an error, records the call and makes the HTTP answer.
    fn end(
        &self,
        call: &Call,
        result: Result<codec::Response, ApiError>,
        started: Instant,
    ) -> Response<Body> {
        let (encoded, error_code) = match result {
            Ok(encoded) => (encoded, None),
            Err(error) => {
                let encoded =
                    codec::encode_error(call.protocol, call.model, call.operation, call.request_id, &error);
                log_error(call, &error);
                (encoded, Some(error.code))
            }
        };
        self.record(call, encoded.status, error_code.as_ref(), started);
        respond(call, encoded)
    }

    fn record(&self, call: &Call, status: u16, error_code: Option<&Cow<'static, str>>, started: Instant) {
        let record = CallRecord {
            request_id: call.request_id,
            at: call.at,
            service: call.model.map_or("", |model| model.name),
            operation: call.operation.map_or("", |operation| operation.name),
            principal: call.verified.as_ref().map(|verified| &verified.principal),
            access_key_id: call.verified.as_ref().map(|verified| &*verified.access_key_id),
            region: call.verified.as_ref().map(|verified| &verified.region),
            source_ip: call.source_ip,
            status,
            error_code: error_code.map(|code| &**code),
            duration: started.elapsed(),
        };
        tracing::debug!(
            request_id = %call.request_id_text,
            service = record.service,
            operation = record.operation,
            status,
            error = record.error_code,
            duration = ?record.duration,
            "call"
        );
        for observer in &self.observers {
            observer.record(&record);
        }
    }
}

fn signed_parts<'a>(head: &'a request::Parts, body: &'a [u8]) -> SignedParts<'a> {
    SignedParts {
        method: head.method.as_str(),
        path: head.uri.path(),
        query: head.uri.query().unwrap_or_default(),
        headers: &head.headers,
        body,
    }
}

fn match_operation(
    call: &mut Call,
    parts: &SignedParts<'_>,
) -> Result<(usize, &'static Operation), ApiError> {
    let Some(model) = call.model else { return Err(SignatureError::Missing.to_api_error(call.protocol)) };
    let index = route::find_operation(model, parts)?;
    let operation = &model.operations[index];
    call.operation = Some(operation);
    Ok((index, operation))
}

fn context(call: &Call, verified: Verified) -> RequestContext {
    RequestContext {
        request_id: call.request_id,
        scope: Scope { account: verified.principal.account(), region: verified.region },
        principal: verified.principal,
        session: verified.session,
        access_key_id: verified.access_key_id,
        source_ip: call.source_ip,
        now: call.at,
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

/// The one place where an unexpected error and its causes reach the log.
fn log_error(call: &Call, error: &ApiError) {
    let Some(cause) = error.cause() else { return };
    let mut chain = cause.to_string();
    let mut next = cause.source();
    while let Some(source) = next {
        chain.push_str(": ");
        chain.push_str(&source.to_string());
        next = source.source();
    }
    tracing::error!(
        request_id = %call.request_id_text,
        service = call.model.map_or("", |model| model.name),
        operation = call.operation.map_or("", |operation| operation.name),
        code = %error.code,
        cause = %chain,
        "a call failed"
    );
}

fn respond(call: &Call, encoded: codec::Response) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(encoded.body)));
    *response.status_mut() =
        StatusCode::from_u16(encoded.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&call.request_id_text) {
        if matches!(call.protocol, Protocol::Query | Protocol::Ec2Query) {
            headers.insert("x-amz-request-id", id.clone());
        }
        headers.insert("x-amzn-requestid", id);
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(encoded.content_type));
    response
}

/// A future that, when dropped before its end, goes on in a task of its own.
struct RunToEnd(Option<Pin<Box<dyn Future<Output = Response<Body>> + Send>>>);

impl Future for RunToEnd {
    type Output = Response<Body>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(running) = &mut self.0 else { return Poll::Pending };
        let polled = running.as_mut().poll(context);
        if polled.is_ready() {
            self.0 = None;
        }
        polled
    }
}

impl Drop for RunToEnd {
    fn drop(&mut self) {
        // Outside of a runtime nothing can go on: the process is ending.
        if let (Some(running), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(running);
        }
    }
}
