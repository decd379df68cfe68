//! What happens to the knowledge that a call was made: every call, allowed or denied, becomes a
//! [`CallRecord`] and is shown to each [`CallObserver`]. [`Metrics`] counts them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use wharf_core::{Principal, Region, RequestId, Timestamp};

/// One call, when its answer is known.
#[derive(Clone, Debug)]
pub struct CallRecord<'a> {
    pub request_id: RequestId,
    /// When the call arrived.
    pub at: Timestamp,
    /// The service's name, such as `ecs`; empty when no service could be told.
    pub service: &'static str,
    /// The operation's name, such as `RunTask`; empty when no operation could be told.
    pub operation: &'static str,
    /// `None` when the caller did not prove who they are.
    pub principal: Option<&'a Principal>,
    pub access_key_id: Option<&'a str>,
    pub region: Option<&'a Region>,
    pub source_ip: IpAddr,
    pub status: u16,
    /// The wire code of the error; `None` when the call succeeded.
    pub error_code: Option<&'a str>,
    pub duration: Duration,
}

/// Something that is told of every call. It is called on the request's path: it must neither block
/// nor fail.
pub trait CallObserver: Send + Sync {
    fn record(&self, call: &CallRecord<'_>);
}

/// Upper bounds of the latency histogram's buckets, in microseconds.
const BUCKETS_US: [u64; 14] =
    [50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000, 1_000_000, 10_000_000];

/// Statuses that are counted by themselves; all others are counted as `other`.
const STATUSES: [u16; 11] = [200, 400, 401, 403, 404, 408, 413, 429, 500, 501, 503];

/// Counters and latency histograms of the calls, by service and operation.
#[derive(Default)]
pub struct Metrics {
    // The keys are names of generated models, of which there are as many as the build has.
    series: RwLock<BTreeMap<(&'static str, &'static str), Arc<Series>>>,
}

#[derive(Default)]
struct Series {
    by_status: [AtomicU64; STATUSES.len() + 1],
    /// Each bucket counts its own calls alone; they are summed when shown.
    buckets: [AtomicU64; BUCKETS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Metrics {
    fn series(&self, service: &'static str, operation: &'static str) -> Arc<Series> {
        if let Some(series) = self.series.read().get(&(service, operation)) {
            return Arc::clone(series);
        }
        Arc::clone(self.series.write().entry((service, operation)).or_default())
    }

    /// All series in the text format of Prometheus (version 0.0.4).
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(4096);
        text.push_str("# HELP wharf_api_requests_total Calls answered.\n");
        text.push_str("# TYPE wharf_api_requests_total counter\n");
        let series = self.series.read().clone();
        for ((service, operation), series) in &series {
            for (index, count) in series.by_status.iter().enumerate() {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    let status = STATUSES.get(index).map_or("other".to_owned(), u16::to_string);
                    // Writing to a String cannot fail.
                    let _ = writeln!(
                        text,
                        "wharf_api_requests_total{{service=\"{service}\",operation=\"{operation}\",status=\"{status}\"}} {count}"
                    );
                }
            }
        }
        text.push_str(
            "# HELP wharf_api_request_duration_seconds From the whole request read to its answer.\n",
        );
        text.push_str("# TYPE wharf_api_request_duration_seconds histogram\n");
        for ((service, operation), series) in &series {
            let labels = format!("service=\"{service}\",operation=\"{operation}\"");
            let mut total = 0;
            for (index, bucket) in series.buckets.iter().enumerate() {
                total += bucket.load(Ordering::Relaxed);
                let bound =
                    BUCKETS_US.get(index).map_or("+Inf".to_owned(), |us| format!("{}", *us as f64 / 1e6));
                let _ = writeln!(
                    text,
                    "wharf_api_request_duration_seconds_bucket{{{labels},le=\"{bound}\"}} {total}"
                );
            }
            let sum = series.sum_us.load(Ordering::Relaxed) as f64 / 1e6;
            let _ = writeln!(text, "wharf_api_request_duration_seconds_sum{{{labels}}} {sum}");
            let _ = writeln!(text, "wharf_api_request_duration_seconds_count{{{labels}}} {total}");
        }
        text
    }
}

impl CallObserver for Metrics {
    fn record(&self, call: &CallRecord<'_>) {
        let series = self.series(call.service, call.operation);
        let status = STATUSES.iter().position(|status| *status == call.status).unwrap_or(STATUSES.len());
        series.by_status[status].fetch_add(1, Ordering::Relaxed);
        let us = u64::try_from(call.duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS_US.iter().position(|bound| us <= *bound).unwrap_or(BUCKETS_US.len());
        series.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        series.sum_us.fetch_add(us, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_core::SeededRng;

    #[test]
    fn calls_are_counted_by_status_and_their_times_by_bucket() {
        let metrics = Metrics::default();
        let mut record = CallRecord {
            request_id: RequestId::random(&SeededRng::new(1)),
            at: Timestamp::default(),
            service: "ecs",
            operation: "RunTask",
            principal: None,
            access_key_id: None,
            region: None,
            source_ip: IpAddr::from([127, 0, 0, 1]),
            status: 200,
            error_code: None,
            duration: Duration::from_micros(70),
        };
        metrics.record(&record);
        metrics.record(&record);
        record.status = 418;
        record.duration = Duration::from_secs(60);
        metrics.record(&record);
        let text = metrics.render();
        for line in [
            r#"wharf_api_requests_total{service="ecs",operation="RunTask",status="200"} 2"#,
            r#"wharf_api_requests_total{service="ecs",operation="RunTask",status="other"} 1"#,
            r#"wharf_api_request_duration_seconds_bucket{service="ecs",operation="RunTask",le="0.00005"} 0"#,
            r#"wharf_api_request_duration_seconds_bucket{service="ecs",operation="RunTask",le="0.0001"} 2"#,
            r#"wharf_api_request_duration_seconds_bucket{service="ecs",operation="RunTask",le="10"} 2"#,
            r#"wharf_api_request_duration_seconds_bucket{service="ecs",operation="RunTask",le="+Inf"} 3"#,
            r#"wharf_api_request_duration_seconds_sum{service="ecs",operation="RunTask"} 60.00014"#,
            r#"wharf_api_request_duration_seconds_count{service="ecs",operation="RunTask"} 3"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\nin\n{text}");
        }
    }
}
