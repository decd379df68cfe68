//! Pages of a listing. A marker names the last item of the page before it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use wharf_core::ApiError;

use crate::failures::validation;

/// How many items a page has when the caller does not say.
const PAGE_ITEMS: usize = 100;

#[derive(Debug)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub marker: Option<String>,
    pub is_truncated: Option<bool>,
}

impl<T> Page<T> {
    pub fn map<U>(self, convert: impl FnMut(T) -> U) -> Page<U> {
        let Self { items, marker, is_truncated } = self;
        Page { items: items.into_iter().map(convert).collect(), marker, is_truncated }
    }
}

/// The items behind `marker`, at most `max_items` of them (1 to 1000, as the model has checked).
/// `items` come in the order of `place`, which is different for each.
///
/// # Errors
/// When the marker is not one of ours.
pub fn page<T>(
    items: impl IntoIterator<Item = T>,
    place: impl Fn(&T) -> String,
    marker: Option<&str>,
    max_items: Option<i32>,
) -> Result<Page<T>, ApiError> {
    let limit = max_items.and_then(|max| usize::try_from(max).ok()).unwrap_or(PAGE_ITEMS);
    let after = marker.map(decode).transpose()?;
    let mut rest =
        items.into_iter().skip_while(|item| after.as_ref().is_some_and(|after| place(item) <= *after));
    let items: Vec<T> = rest.by_ref().take(limit).collect();
    let more = rest.next().is_some();
    let marker = items.last().filter(|_| more).map(|last| URL_SAFE_NO_PAD.encode(place(last)));
    Ok(Page { items, marker, is_truncated: Some(more) })
}

fn decode(marker: &str) -> Result<String, ApiError> {
    let bytes = URL_SAFE_NO_PAD.decode(marker).ok();
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(|| validation("Invalid Marker."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_join_up_to_the_whole_and_say_when_they_end() {
        let all: Vec<String> = (10..35).map(|n| n.to_string()).collect();
        let (mut marker, mut seen, mut pages) = (None, Vec::new(), 0);
        loop {
            let page = page(all.clone(), Clone::clone, marker.as_deref(), Some(5)).unwrap();
            assert_eq!(page.is_truncated, Some(page.marker.is_some()));
            seen.extend(page.items);
            pages += 1;
            marker = page.marker;
            if marker.is_none() {
                break;
            }
        }
        assert_eq!((seen, pages), (all, 5));
        assert_eq!(page(["a"], ToString::to_string, Some("!"), None).unwrap_err().code, "ValidationError");
    }
}
