//! What a caller sent, cut to a length that an error may repeat.

/// At most `bytes_max` bytes of `text`, cut between characters.
pub(crate) fn bounded(text: &str, bytes_max: usize) -> &str {
    if text.len() <= bytes_max {
        return text;
    }
    let mut end = bytes_max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::bounded;

    #[test]
    fn the_cut_is_between_characters() {
        assert_eq!(bounded("abc", 3), "abc");
        assert_eq!(bounded("aéb", 2), "a");
        assert_eq!(bounded("éé", 0), "");
    }
}
