//! The operations of the API, one file a resource. Here they are only put behind the trait.

mod event;
mod group;
mod stream;
mod tag;

use async_trait::async_trait;
use wharf_core::{ApiError, RequestContext};
use wharf_logs_api::{Logs as Api, errors, types};

use crate::Logs;

/// Puts methods of [`Logs`] behind the generated trait.
macro_rules! operations {
    ($($name:ident($input:ty) -> $output:ty;)*) => {
        #[async_trait]
        impl Api for Logs {
            $(async fn $name(&self, context: &RequestContext, input: $input) -> Result<$output, ApiError> {
                Logs::$name(self, context, input).await
            })*
        }
    };
}

operations! {
    create_log_group(types::CreateLogGroupRequest) -> ();
    delete_log_group(types::DeleteLogGroupRequest) -> ();
    describe_log_groups(types::DescribeLogGroupsRequest) -> types::DescribeLogGroupsResponse;
    put_retention_policy(types::PutRetentionPolicyRequest) -> ();
    delete_retention_policy(types::DeleteRetentionPolicyRequest) -> ();
    create_log_stream(types::CreateLogStreamRequest) -> ();
    delete_log_stream(types::DeleteLogStreamRequest) -> ();
    describe_log_streams(types::DescribeLogStreamsRequest) -> types::DescribeLogStreamsResponse;
    put_log_events(types::PutLogEventsRequest) -> types::PutLogEventsResponse;
    get_log_events(types::GetLogEventsRequest) -> types::GetLogEventsResponse;
    filter_log_events(types::FilterLogEventsRequest) -> types::FilterLogEventsResponse;
    tag_log_group(types::TagLogGroupRequest) -> ();
    untag_log_group(types::UntagLogGroupRequest) -> ();
    list_tags_log_group(types::ListTagsLogGroupRequest) -> types::ListTagsLogGroupResponse;
    tag_resource(types::TagResourceRequest) -> ();
    untag_resource(types::UntagResourceRequest) -> ();
    list_tags_for_resource(types::ListTagsForResourceRequest) -> types::ListTagsForResourceResponse;
}

/// The error for a field that is understood and not done.
fn refused(operation: &str, field: &str) -> ApiError {
    ApiError::not_implemented(format_args!("the field \"{field}\" of logs:{operation}"))
}

fn bad_token() -> ApiError {
    errors::invalid_parameter_exception("The specified nextToken is invalid.")
}

/// A page of what comes after `token`, which is the name of the last one of the page before.
/// `items` are sorted by name.
fn page<T>(
    items: impl Iterator<Item = T>,
    name: impl Fn(&T) -> &str,
    token: Option<&str>,
    limit: usize,
) -> (Vec<T>, Option<String>) {
    let mut page: Vec<T> =
        items.skip_while(|item| token.is_some_and(|token| name(item) <= token)).take(limit + 1).collect();
    let more = page.len() > limit;
    page.truncate(limit);
    let next = more.then(|| page.last().map(|item| encode_token(name(item)))).flatten();
    (page, next)
}

fn encode_token(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn decode_token(token: Option<&str>) -> Result<Option<String>, ApiError> {
    let Some(token) = token else { return Ok(None) };
    let decode = || {
        let digits = token.as_bytes();
        if digits.len() % 2 != 0 {
            return None;
        }
        let bytes = digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
            .collect::<Option<Vec<u8>>>()?;
        String::from_utf8(bytes).ok()
    };
    decode().map(Some).ok_or_else(bad_token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_join_up_to_the_whole() {
        let names = ["a", "b", "c", "d", "e"];
        let mut seen = Vec::new();
        let mut token = None;
        loop {
            let after = decode_token(token.as_deref()).unwrap();
            let (page, next) = page(names.into_iter(), |name| name, after.as_deref(), 2);
            seen.extend(page);
            token = next;
            if token.is_none() {
                break;
            }
        }
        assert_eq!(seen, names);
        assert!(decode_token(Some("xyz")).is_err());
        assert!(decode_token(Some("é0")).is_err());
    }
}
