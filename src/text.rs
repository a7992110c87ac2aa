//! Makes foreign text safe to store and to read: handlers print anything, Postgres stores UTF-8 without NUL.

use std::error::Error;
use std::fmt::Write as _;

/// The longest error message kept, in bytes; longer ones are cut and say so.
pub const MESSAGE_BYTES_MAX: usize = 8 * 1024;
/// The longest stack or output tail kept with an error, in bytes.
pub const DETAIL_BYTES_MAX: usize = 16 * 1024;

/// Turns bytes into text that Postgres takes: invalid UTF-8 and NUL become U+FFFD.
pub fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\0', "\u{FFFD}")
}

/// Cuts text at a character border so that it has at most `max` bytes, and says what was cut.
pub fn truncated(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.replace('\0', "\u{FFFD}");
    }
    let cut = text.floor_char_boundary(max);
    format!("{}… ({} bytes more)", text[..cut].replace('\0', "\u{FFFD}"), text.len() - cut)
}

/// Keeps the end of the text, where programs say why they failed.
pub fn tail(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let start = text.ceil_char_boundary(text.len() - max);
    format!("({start} bytes before) …{}", &text[start..])
}

/// An error and all its causes on one line, a cause that only repeats the one above left out.
pub fn error_chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let words = next.to_string();
        if !line.contains(&words) {
            let _ = write!(line, ": {words}");
        }
        cause = next.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn whatever_a_handler_prints_can_be_stored(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let text = printable(&bytes);
            prop_assert!(!text.contains('\0'));
            prop_assert!(truncated(&text, 50).len() <= 50 + 40);
            prop_assert!(tail(&text, 50).len() <= 50 + 40);
        }
    }

    #[test]
    fn a_cut_text_says_how_much_is_missing() {
        assert_eq!(truncated("abcdef", 4), "abcd… (2 bytes more)");
        assert_eq!(tail("abcdef", 2), "(4 bytes before) …ef");
    }
}
