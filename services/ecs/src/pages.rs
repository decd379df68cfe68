//! Pages of a listing. A token names the last item of the page before it, and the listing that it
//! continues: one that was made up, or made for another listing, is refused.

use wharf_core::ApiError;
use wharf_ecs_api::errors::invalid_parameter_exception;

/// The most items of a page, and how many when the caller does not say.
pub const PAGE_ITEMS_MAX: usize = 100;

pub struct Page<T> {
    pub items: Vec<T>,
    pub next_token: Option<String>,
}

/// Where a page begins and how long it is.
#[derive(Debug)]
pub struct PageRequest {
    listing: String,
    /// Behind this item; `None`: at the start.
    pub after: Option<String>,
    limit: usize,
}

impl PageRequest {
    /// `listing` names the operation and its filters.
    ///
    /// # Errors
    /// `InvalidParameterException` for a token that is not ours, or a page of less than 1 or more
    /// than 100 items.
    pub fn new(listing: String, token: Option<&str>, max_results: Option<i32>) -> Result<Self, ApiError> {
        let limit = match max_results {
            None => PAGE_ITEMS_MAX,
            Some(wanted) => {
                usize::try_from(wanted).ok().filter(|n| (1..=PAGE_ITEMS_MAX).contains(n)).ok_or_else(
                    || invalid_parameter_exception("maxResults must be between 1 and 100, inclusive."),
                )?
            }
        };
        let after = match token {
            None | Some("") => None,
            Some(token) => {
                let invalid = || invalid_parameter_exception("Invalid token.");
                let text = hex::decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
                let text = text.ok_or_else(invalid)?;
                let after = text.strip_prefix(&listing).and_then(|rest| rest.strip_prefix('\0'));
                Some(after.ok_or_else(invalid)?.to_owned())
            }
        };
        Ok(Self { listing, after, limit })
    }

    /// Takes a page from items that lie behind [`PageRequest::after`], in the order of the listing.
    pub fn take<T>(&self, items: impl Iterator<Item = T>, name: impl Fn(&T) -> String) -> Page<T> {
        let mut items = items.peekable();
        let mut page = Vec::new();
        while page.len() < self.limit {
            let Some(item) = items.next() else { break };
            page.push(item);
        }
        let next_token = match (items.peek(), page.last()) {
            (Some(_), Some(last)) => Some(hex::encode(format!("{}\0{}", self.listing, name(last)))),
            _ => None,
        };
        Page { items: page, next_token }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_and_end() {
        let all: Vec<u32> = (0..25).collect();
        let (mut token, mut seen) = (None, Vec::new());
        loop {
            let request = PageRequest::new("list".into(), token.as_deref(), Some(10)).unwrap();
            let after: Option<u32> = request.after.as_deref().map(|text| text.parse().unwrap());
            let rest = all.iter().copied().filter(|n| after.is_none_or(|after| *n > after));
            let page = request.take(rest, ToString::to_string);
            seen.extend(page.items);
            token = page.next_token;
            if token.is_none() {
                break;
            }
        }
        assert_eq!(seen, all);
    }

    #[test]
    fn foreign_tokens_and_sizes_are_refused() {
        let other = hex::encode("other\0x");
        for token in ["zz", "00", other.as_str(), "abc"] {
            let error = PageRequest::new("list".into(), Some(token), None).unwrap_err();
            assert_eq!(error.code, "InvalidParameterException", "{token}");
        }
        for size in [0, -1, 101] {
            assert!(PageRequest::new("list".into(), None, Some(size)).is_err());
        }
    }
}
