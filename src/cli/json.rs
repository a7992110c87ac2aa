//! Looks at JSON before it is sent: whether Postgres will take it, and if not, where the fault is.

use serde::de::IgnoredAny;

/// What is wrong with a JSON text, and where; both counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JsonFault {
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) problem: String,
}

/// Checks that the bytes are one JSON value that a `jsonb` can hold.
pub(super) fn check(bytes: &[u8]) -> Result<&str, JsonFault> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| at(bytes, error.valid_up_to(), "is not UTF-8 from here on"))?;
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| {
        let words = error.to_string();
        let problem = words.split(" at line ").next().unwrap_or_default().to_owned();
        JsonFault { line: error.line(), column: error.column(), problem }
    })?;
    check_escapes(bytes)?;
    Ok(text)
}

/// In valid JSON a backslash stands only in strings, so that no parser is needed to find the escapes.
fn check_escapes(bytes: &[u8]) -> Result<(), JsonFault> {
    let mut rest = 0;
    while let Some(found) = bytes[rest..].iter().position(|byte| *byte == b'\\') {
        let here = rest + found;
        rest = here + 2;
        match unit(bytes, here) {
            Some(0) => {
                return Err(at(bytes, here, "has a NUL (\\u0000), which Postgres cannot store in text"));
            }
            Some(0xD800..=0xDBFF) => match unit(bytes, here + 6) {
                Some(0xDC00..=0xDFFF) => rest = here + 12,
                _ => return Err(at(bytes, here, "has half of a surrogate pair")),
            },
            Some(0xDC00..=0xDFFF) => return Err(at(bytes, here, "has half of a surrogate pair")),
            _ => {}
        }
    }
    Ok(())
}

/// The number of the `\uXXXX` that begins here.
fn unit(bytes: &[u8], here: usize) -> Option<u16> {
    let digits = bytes.get(here..here + 6)?.strip_prefix(b"\\u")?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

fn at(bytes: &[u8], offset: usize, problem: &str) -> JsonFault {
    let lines: Vec<&[u8]> = bytes[..offset].split(|byte| *byte == b'\n').collect();
    let column = lines.last().map_or(0, |line| line.len()) + 1;
    JsonFault { line: lines.len(), column, problem: problem.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &[u8]) -> (usize, usize, String) {
        let fault = check(text).expect_err("a fault");
        (fault.line, fault.column, fault.problem)
    }

    #[test]
    fn a_fault_is_found_where_it_is() {
        assert_eq!(fault(b"{\"a\": tru}"), (1, 10, "expected ident".to_owned()));
        assert_eq!(fault(b"{\n  \"a\": \"x\\u0000\"}").0, 2);
        assert_eq!(fault(b"{\n  \"a\": \"x\\u0000\"}").1, 10);
        assert!(fault(b"\"\\ud800\"").2.contains("surrogate"));
        assert!(fault(b"\"\\udc00\\ud800\"").2.contains("surrogate"));
        assert_eq!(fault(b"\"\xff\"").1, 2);
        assert_eq!(fault(b"{} {}").1, 4);
        assert!(fault(b"").2.contains("EOF"));
    }

    #[test]
    fn what_postgres_takes_is_taken() {
        for text in [r#""\\u0000""#, r#""\ud83d\ude00""#, "1e400", "null", " [1, 2]\n", r#""\\\\u0000\n""#] {
            assert_eq!(check(text.as_bytes()), Ok(text));
        }
    }
}
