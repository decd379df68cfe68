//! Which events of a `PutLogEvents` batch are taken (API Reference, PutLogEvents).

use crate::events::EVENT_OVERHEAD_BYTES;

pub const BATCH_BYTES_MAX: usize = 1_048_576;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;
const FUTURE_MS_MAX: i64 = 2 * 60 * 60 * 1000;
const PAST_MS_MAX: i64 = 14 * DAY_MS;

/// Why a batch is refused as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    #[error("Log events in a single PutLogEvents request must be in chronological order.")]
    Order,
    #[error("The batch of log events in a single PutLogEvents request cannot span more than 24 hours.")]
    Span,
    #[error("Upload too large: {bytes} bytes exceeds limit of {BATCH_BYTES_MAX}")]
    Size { bytes: usize },
}

/// The taken events are `start..end`; the others are told by index, as in `RejectedLogEventsInfo`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    pub start: usize,
    pub end: usize,
    /// One past the last event that is more than 14 days old.
    pub too_old_end: Option<usize>,
    /// One past the last event that is older than the group's retention.
    pub expired_end: Option<usize>,
    /// The first event that is more than two hours in the future.
    pub too_new_start: Option<usize>,
}

/// `events` are (timestamp, bytes of the message).
pub fn plan(events: &[(i64, usize)], now: i64, expired_before: Option<i64>) -> Result<Taken, BatchError> {
    let bytes = events.iter().map(|(_, bytes)| bytes + EVENT_OVERHEAD_BYTES).sum();
    if bytes > BATCH_BYTES_MAX {
        return Err(BatchError::Size { bytes });
    }
    if !events.is_sorted_by_key(|(timestamp, _)| *timestamp) {
        return Err(BatchError::Order);
    }
    if let (Some((first, _)), Some((last, _))) = (events.first(), events.last())
        && last.saturating_sub(*first) > DAY_MS
    {
        return Err(BatchError::Span);
    }
    let before = |limit: i64| events.partition_point(|(timestamp, _)| *timestamp < limit);
    let too_old = before(now - PAST_MS_MAX);
    let expired = expired_before.map_or(0, before);
    let end = events.partition_point(|(timestamp, _)| *timestamp <= now + FUTURE_MS_MAX);
    let start = too_old.max(expired).min(end);
    Ok(Taken {
        start,
        end,
        too_old_end: (too_old > 0).then_some(too_old),
        expired_end: (expired > 0).then_some(expired),
        too_new_start: (end < events.len()).then_some(end),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    #[test]
    fn a_batch_out_of_order_or_too_long_or_too_large_is_refused() {
        assert_eq!(plan(&[(NOW, 1), (NOW - 1, 1)], NOW, None), Err(BatchError::Order));
        assert_eq!(plan(&[(NOW - DAY_MS - 1, 1), (NOW, 1)], NOW, None), Err(BatchError::Span));
        assert_eq!(
            plan(&[(NOW, BATCH_BYTES_MAX)], NOW, None),
            Err(BatchError::Size { bytes: BATCH_BYTES_MAX + EVENT_OVERHEAD_BYTES })
        );
    }

    #[test]
    fn old_expired_and_future_events_are_told_by_index() {
        let hour = 60 * 60 * 1000;
        let events = [(NOW - 3 * hour, 1), (NOW - hour, 1), (NOW, 1), (NOW + 3 * hour, 1)];
        let taken = plan(&events, NOW, Some(NOW - 2 * hour)).unwrap();
        assert_eq!((taken.start, taken.end), (1, 3));
        assert_eq!((taken.expired_end, taken.too_new_start, taken.too_old_end), (Some(1), Some(3), None));
        let taken = plan(&[(NOW - 15 * DAY_MS, 1)], NOW, None).unwrap();
        assert_eq!((taken.start, taken.end, taken.too_old_end), (1, 1, Some(1)));
    }
}
