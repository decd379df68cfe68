//! Pages of a listing. A token names the listing and the last item of the page before.

use wharf_core::ApiError;
use wharf_secretsmanager_api::errors;

/// Where a page begins and how long it is.
pub struct PageRequest {
    listing: String,
    /// Behind the item with this key; `None`: at the start.
    after: Option<String>,
    limit: usize,
}

impl PageRequest {
    /// `listing` names the operation and the order of its items.
    ///
    /// # Errors
    /// `InvalidNextTokenException` for a token that this listing did not give.
    pub fn new(
        listing: String,
        token: Option<&str>,
        max_results: Option<i32>,
        limit_max: usize,
    ) -> Result<Self, ApiError> {
        let after = match token {
            None => None,
            Some(token) => {
                let text = hex::decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
                let after = text.as_deref().and_then(|text| text.strip_prefix(&listing)?.strip_prefix('\0'));
                let after = after.ok_or_else(invalid_token)?;
                Some(after.to_owned())
            }
        };
        // The model has checked the range.
        let wanted = max_results.and_then(|wanted| usize::try_from(wanted).ok());
        Ok(Self { listing, after, limit: wanted.unwrap_or(limit_max).clamp(1, limit_max) })
    }

    /// Takes a page of `items`, given with the keys by which they are sorted: ascending, or
    /// descending where `reversed`.
    pub fn take<T>(&self, mut items: Vec<(String, T)>, order: Order) -> (Vec<T>, Option<String>) {
        items.sort_by(|(a, _), (b, _)| a.cmp(b));
        if order == Order::Descending {
            items.reverse();
        }
        let is_behind = |key: &str| {
            self.after.as_deref().is_none_or(|after| match order {
                Order::Ascending => key > after,
                Order::Descending => key < after,
            })
        };
        let mut page: Vec<(String, T)> =
            items.into_iter().filter(|(key, _)| is_behind(key)).take(self.limit + 1).collect();
        let more = page.len() > self.limit;
        page.truncate(self.limit);
        let last = page.last().filter(|_| more);
        let token = last.map(|(key, _)| hex::encode(format!("{}\0{key}", self.listing)));
        (page.into_iter().map(|(_, item)| item).collect(), token)
    }
}

/// The error for a token that the listing did not give.
pub fn invalid_token() -> ApiError {
    errors::invalid_next_token_exception("Invalid token")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Ascending,
    Descending,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_join_up_to_the_whole_in_both_orders() {
        for order in [Order::Ascending, Order::Descending] {
            let (mut seen, mut token) = (Vec::<u32>::new(), None);
            loop {
                let request = PageRequest::new("list".into(), token.as_deref(), Some(2), 100)
                    .unwrap_or_else(|error| panic!("{error}"));
                let (page, next) = request.take((0..5u32).map(|n| (n.to_string(), n)).collect(), order);
                seen.extend(page);
                token = next;
                if token.is_none() {
                    break;
                }
            }
            let mut all: Vec<u32> = (0..5).collect();
            if order == Order::Descending {
                all.reverse();
            }
            assert_eq!(seen, all);
        }
        let other = hex::encode("other\0a");
        for token in ["zz", "00", other.as_str()] {
            let error = PageRequest::new("list".into(), Some(token), None, 100).err().unwrap();
            assert_eq!(error.code, "InvalidNextTokenException");
        }
    }
}
