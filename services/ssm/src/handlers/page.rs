//! Pages of a listing. A token names the listing and the last item of the page before.

use wharf_core::ApiError;
use wharf_ssm_api::errors;

/// Where a page begins and how long it is.
pub struct PageRequest {
    listing: &'static str,
    /// Behind this item; `None`: at the start.
    pub after: Option<String>,
    limit: usize,
}

impl PageRequest {
    /// # Errors
    /// `InvalidNextToken` for a token that this listing did not give.
    pub fn new(
        listing: &'static str,
        token: Option<&str>,
        max_results: Option<i32>,
        limit_max: usize,
    ) -> Result<Self, ApiError> {
        let after = match token {
            None | Some("") => None,
            Some(token) => {
                let text = hex::decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
                let after = text.as_deref().and_then(|text| text.strip_prefix(listing)?.strip_prefix('\0'));
                let after =
                    after.ok_or_else(|| errors::invalid_next_token("The specified token isn't valid."))?;
                Some(after.to_owned())
            }
        };
        // The model has checked the range.
        let wanted = max_results.and_then(|wanted| usize::try_from(wanted).ok());
        Ok(Self { listing, after, limit: wanted.unwrap_or(limit_max).clamp(1, limit_max) })
    }

    /// Takes a page of `items`, which begin behind [`PageRequest::after`].
    pub fn take<T>(
        &self,
        items: impl Iterator<Item = T>,
        name: impl Fn(&T) -> String,
    ) -> (Vec<T>, Option<String>) {
        let mut page: Vec<T> = items.take(self.limit + 1).collect();
        let more = page.len() > self.limit;
        page.truncate(self.limit);
        let last = page.last().filter(|_| more);
        let token = last.map(|last| hex::encode(format!("{}\0{}", self.listing, name(last))));
        (page, token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_join_up_to_the_whole() {
        let names = ["a", "b", "c", "d", "e"];
        let (mut seen, mut token) = (Vec::<&&str>::new(), None);
        loop {
            let request = PageRequest::new("list", token.as_deref(), Some(2), 50)
                .unwrap_or_else(|error| panic!("{error}"));
            let rest =
                names.iter().filter(|name| request.after.as_deref().is_none_or(|after| **name > after));
            let (page, next) = request.take(rest, |name| (**name).to_owned());
            seen.extend(page);
            token = next;
            if token.is_none() {
                break;
            }
        }
        assert_eq!(seen, names.iter().collect::<Vec<_>>());
        let other = hex::encode("other\0a");
        for token in ["zz", "00", other.as_str()] {
            assert_eq!(
                PageRequest::new("list", Some(token), None, 50).err().unwrap().code,
                "InvalidNextToken"
            );
        }
    }
}
