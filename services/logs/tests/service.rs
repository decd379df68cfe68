//! The service on a store in memory: what a caller of the API sees.

use std::sync::Arc;
use std::time::Duration;

use wharf_contracts::{LogDestination, LogEvent, LogSink as _};
use wharf_core::{
    ApiError, Clock as _, ManualClock, Principal, RequestContext, RequestId, Scope, SeededRng, Timestamp,
};
use wharf_logs::Logs;
use wharf_logs_api::{Logs as _, types};
use wharf_state::{MemoryJournal, Store};

const NOW: i64 = 1_700_000_000_000;

struct House {
    logs: Arc<Logs>,
    store: Store,
    clock: Arc<ManualClock>,
}

fn house() -> House {
    let store = wharf_logs::register(Store::builder(Arc::new(MemoryJournal::new()))).open().unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(NOW)));
    House { logs: Logs::new(store.clone(), clock.clone()), store, clock }
}

impl House {
    fn context(&self) -> RequestContext {
        RequestContext {
            request_id: RequestId::random(&SeededRng::new(1)),
            scope: scope(),
            principal: Principal::Root { account: scope().account },
            session: None,
            access_key_id: "test".into(),
            source_ip: [127, 0, 0, 1].into(),
            now: self.clock.now(),
        }
    }

    async fn stream(&self, group: &str, stream: &str) {
        let input = types::CreateLogGroupRequest { log_group_name: group.into(), ..Default::default() };
        match self.logs.create_log_group(&self.context(), input).await {
            Ok(()) => {}
            Err(error) => assert_eq!(error.code, "ResourceAlreadyExistsException"),
        }
        let input =
            types::CreateLogStreamRequest { log_group_name: group.into(), log_stream_name: stream.into() };
        self.logs.create_log_stream(&self.context(), input).await.unwrap();
    }

    async fn put(
        &self,
        group: &str,
        stream: &str,
        events: &[(i64, &str)],
    ) -> Result<types::PutLogEventsResponse, ApiError> {
        let log_events = events
            .iter()
            .map(|(timestamp, message)| types::InputLogEvent {
                message: (*message).into(),
                timestamp: *timestamp,
            })
            .collect();
        let input = types::PutLogEventsRequest {
            log_group_name: group.into(),
            log_stream_name: stream.into(),
            log_events,
            ..Default::default()
        };
        self.logs.put_log_events(&self.context(), input).await
    }

    async fn get(&self, input: types::GetLogEventsRequest) -> (Vec<String>, String, String) {
        let page = self.logs.get_log_events(&self.context(), input).await.unwrap();
        let messages = page.events.unwrap().into_iter().map(|event| event.message.unwrap()).collect();
        (messages, page.next_backward_token.unwrap(), page.next_forward_token.unwrap())
    }

    async fn filter(&self, input: types::FilterLogEventsRequest) -> Vec<String> {
        let mut input = input;
        let mut found = Vec::new();
        loop {
            let page = self.logs.filter_log_events(&self.context(), input.clone()).await.unwrap();
            found.extend(page.events.unwrap().into_iter().map(|event| event.message.unwrap()));
            input.next_token = page.next_token;
            if input.next_token.is_none() {
                return found;
            }
        }
    }
}

fn scope() -> Scope {
    Scope { account: "000000000000".parse().unwrap(), region: "us-east-1".parse().unwrap() }
}

fn get_request(stream: &str) -> types::GetLogEventsRequest {
    types::GetLogEventsRequest {
        log_group_name: Some("g".into()),
        log_stream_name: stream.into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn what_is_put_is_read_in_the_order_of_time_page_by_page() {
    let house = house();
    house.stream("g", "s").await;
    house.put("g", "s", &[(NOW, "c"), (NOW, "d"), (NOW + 1, "e")]).await.unwrap();
    house.put("g", "s", &[(NOW - 2, "a"), (NOW - 1, "b")]).await.unwrap();

    let mut request =
        types::GetLogEventsRequest { limit: Some(2), start_from_head: Some(true), ..get_request("s") };
    let mut seen = Vec::new();
    loop {
        let (messages, _, forward) = house.get(request.clone()).await;
        if request.next_token.as_ref() == Some(&forward) {
            assert!(messages.is_empty());
            break;
        }
        seen.extend(messages);
        request.next_token = Some(forward);
    }
    assert_eq!(seen, ["a", "b", "c", "d", "e"]);

    // What comes later is found with the same token.
    house.put("g", "s", &[(NOW + 2, "f")]).await.unwrap();
    assert_eq!(house.get(request).await.0, ["f"]);

    // Without a start, the last events come first, and the backward token leads to the rest.
    let (messages, backward, _) =
        house.get(types::GetLogEventsRequest { limit: Some(4), ..get_request("s") }).await;
    assert_eq!(messages, ["c", "d", "e", "f"]);
    let request = types::GetLogEventsRequest { next_token: Some(backward.clone()), ..get_request("s") };
    let (messages, again, _) = house.get(request).await;
    assert_eq!(messages, ["a", "b"]);
    let request = types::GetLogEventsRequest { next_token: Some(again.clone()), ..get_request("s") };
    let (messages, end, _) = house.get(request).await;
    assert_eq!((messages.len(), end), (0, again));
}

#[tokio::test]
async fn a_reader_of_an_empty_stream_waits_with_one_token() {
    let house = house();
    house.stream("g", "s").await;
    let request = types::GetLogEventsRequest { start_from_head: Some(true), ..get_request("s") };
    let (messages, _, first) = house.get(request.clone()).await;
    assert!(messages.is_empty());
    let request = types::GetLogEventsRequest { next_token: Some(first.clone()), ..request };
    assert_eq!(house.get(request.clone()).await.2, first);
    house.put("g", "s", &[(NOW, "here")]).await.unwrap();
    assert_eq!(house.get(request).await.0, ["here"]);
}

#[tokio::test]
async fn start_and_end_bound_what_is_read() {
    let house = house();
    house.stream("g", "s").await;
    house.put("g", "s", &[(NOW, "a"), (NOW + 1, "b"), (NOW + 2, "c")]).await.unwrap();
    let request = types::GetLogEventsRequest {
        start_time: Some(NOW + 1),
        end_time: Some(NOW + 2),
        start_from_head: Some(true),
        ..get_request("s")
    };
    assert_eq!(house.get(request).await.0, ["b"]);
}

#[tokio::test]
async fn a_filter_merges_streams_by_time_and_pages() {
    let house = house();
    house.stream("g", "one").await;
    house.stream("g", "two").await;
    house.put("g", "one", &[(NOW, "ERROR 1"), (NOW + 2, "ok"), (NOW + 4, "ERROR 5")]).await.unwrap();
    house.put("g", "two", &[(NOW, "ERROR 2"), (NOW + 1, "ERROR 3"), (NOW + 4, "ERROR 6")]).await.unwrap();
    for limit in 1..6 {
        let request = types::FilterLogEventsRequest {
            log_group_name: Some("g".into()),
            filter_pattern: Some("ERROR".into()),
            limit: Some(limit),
            ..Default::default()
        };
        assert_eq!(
            house.filter(request).await,
            ["ERROR 1", "ERROR 2", "ERROR 3", "ERROR 5", "ERROR 6"],
            "limit {limit}"
        );
    }
    let request = types::FilterLogEventsRequest {
        log_group_identifier: Some("arn:aws:logs:us-east-1:000000000000:log-group:g:*".into()),
        log_stream_name_prefix: Some("tw".into()),
        start_time: Some(NOW + 1),
        ..Default::default()
    };
    assert_eq!(house.filter(request).await, ["ERROR 3", "ERROR 6"]);
}

#[tokio::test]
async fn what_is_expired_is_not_shown_and_then_swept() {
    let house = house();
    house.stream("g", "s").await;
    house.put("g", "s", &[(NOW, "old")]).await.unwrap();
    let input = types::PutRetentionPolicyRequest { log_group_name: "g".into(), retention_in_days: 1 };
    house.logs.put_retention_policy(&house.context(), input).await.unwrap();
    assert_eq!(house.get(get_request("s")).await.0, ["old"]);
    house.clock.advance(Duration::from_secs(25 * 60 * 60));
    assert!(house.get(get_request("s")).await.0.is_empty());
    house.put("g", "s", &[(house.clock.now().as_millis(), "new")]).await.unwrap();
    assert_eq!(house.store.history("logs.events").stats().unwrap().entries, 2);
    house.logs.sweep().await.unwrap();
    assert_eq!(house.store.history("logs.events").stats().unwrap().entries, 1);
    assert_eq!(house.get(get_request("s")).await.0, ["new"]);
    let rejected = house.put("g", "s", &[(NOW, "too late")]).await.unwrap().rejected_log_events_info.unwrap();
    assert_eq!(rejected.expired_log_event_end_index, Some(1));

    let input = types::PutRetentionPolicyRequest { log_group_name: "g".into(), retention_in_days: 2 };
    let error = house.logs.put_retention_policy(&house.context(), input).await.unwrap_err();
    assert_eq!(error.code, "InvalidParameterException");
}

#[tokio::test]
async fn a_deleted_group_takes_its_events_along_and_comes_back_empty() {
    let house = house();
    house.stream("g", "s").await;
    house.put("g", "s", &[(NOW, "gone")]).await.unwrap();
    let input = types::DeleteLogGroupRequest { log_group_name: "g".into() };
    house.logs.delete_log_group(&house.context(), input).await.unwrap();
    let error = house.logs.get_log_events(&house.context(), get_request("s")).await.unwrap_err();
    assert_eq!(error.message, "The specified log group does not exist.");
    house.stream("g", "s").await;
    assert!(house.get(get_request("s")).await.0.is_empty());
    house.put("g", "s", &[(NOW, "kept")]).await.unwrap();
    house.logs.sweep().await.unwrap();
    assert_eq!(house.store.history("logs.events").stats().unwrap().entries, 1);
    assert_eq!(house.get(get_request("s")).await.0, ["kept"]);
}

#[tokio::test]
async fn the_sink_stores_nothing_twice_and_says_where_to_go_on() {
    let house = house();
    let destination = LogDestination { scope: scope(), group: "g".into(), stream: "s".into() };
    let refused = house.logs.open(&destination, false).await.unwrap_err();
    assert!(refused.to_string().contains("The specified log group does not exist."));
    assert_eq!(house.logs.open(&destination, true).await.unwrap(), 0);
    let event = |number: u64| LogEvent {
        timestamp_ms: NOW,
        message: format!("line {number}"),
        next_position: number * 10,
    };
    house.logs.append(&destination, vec![event(1), event(2)]).await.unwrap();
    // A crash before the answer: the source repeats, with more.
    house.logs.append(&destination, vec![event(1), event(2), event(3)]).await.unwrap();
    house.logs.append(&destination, vec![event(2)]).await.unwrap();
    assert_eq!(house.get(get_request("s")).await.0, ["line 1", "line 2", "line 3"]);
    assert_eq!(house.logs.open(&destination, false).await.unwrap(), 30);
}

#[tokio::test]
async fn groups_and_streams_are_listed_page_by_page() {
    let house = house();
    for stream in ["b", "a", "c"] {
        house.stream("g", stream).await;
    }
    house.stream("h", "x").await;
    house.put("g", "a", &[(NOW + 5, "x")]).await.unwrap();
    house.put("g", "c", &[(NOW + 1, "x")]).await.unwrap();

    let mut names = Vec::new();
    let mut token = None;
    loop {
        let input =
            types::DescribeLogGroupsRequest { limit: Some(1), next_token: token, ..Default::default() };
        let page = house.logs.describe_log_groups(&house.context(), input).await.unwrap();
        names.extend(page.log_groups.unwrap().into_iter().map(|group| group.log_group_name.unwrap()));
        token = page.next_token;
        if token.is_none() {
            break;
        }
    }
    assert_eq!(names, ["g", "h"]);

    let mut names = Vec::new();
    let mut token = None;
    loop {
        let input = types::DescribeLogStreamsRequest {
            log_group_name: Some("g".into()),
            order_by: Some(types::OrderBy::LastEventTime),
            descending: Some(true),
            limit: Some(1),
            next_token: token,
            ..Default::default()
        };
        let page = house.logs.describe_log_streams(&house.context(), input).await.unwrap();
        names.extend(page.log_streams.unwrap().into_iter().map(|stream| stream.log_stream_name.unwrap()));
        token = page.next_token;
        if token.is_none() {
            break;
        }
    }
    assert_eq!(names, ["a", "c", "b"]);
}

#[tokio::test]
async fn what_is_not_done_is_refused_by_name() {
    let house = house();
    let input = types::CreateLogGroupRequest {
        log_group_name: "g".into(),
        kms_key_id: Some("key".into()),
        ..Default::default()
    };
    let error = house.logs.create_log_group(&house.context(), input).await.unwrap_err();
    assert_eq!(error.code, "NotImplemented");
    assert!(error.message.contains("kmsKeyId"));
    let error =
        house.logs.start_query(&house.context(), types::StartQueryRequest::default()).await.unwrap_err();
    assert!(error.message.contains("logs:StartQuery"));
}
