//! Cuts a stream of bytes into lines, however the bytes arrive, and holds no more than one unfinished line.

/// The unfinished line of a stream.
pub(super) struct Lines {
    rest: Vec<u8>,
    max: usize,
}

/// A line has no end where it should have.
#[derive(Debug, PartialEq)]
pub(super) struct TooLong;

impl Lines {
    /// Lines have at most this many bytes.
    pub(super) fn new(max: usize) -> Self {
        Self { rest: Vec::new(), max }
    }

    /// Takes in what was read, and hands out each line that is complete, without its end.
    pub(super) fn push<E: From<TooLong>>(
        &mut self,
        mut bytes: &[u8],
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, behind) = (&bytes[..end], &bytes[end + 1..]);
            if self.rest.len() + line.len() > self.max {
                return Err(TooLong.into());
            }
            if self.rest.is_empty() {
                take(line)?;
            } else {
                self.rest.extend_from_slice(line);
                let whole = std::mem::take(&mut self.rest);
                take(&whole)?;
            }
            bytes = behind;
        }
        if self.rest.len() + bytes.len() > self.max {
            return Err(TooLong.into());
        }
        self.rest.extend_from_slice(bytes);
        Ok(())
    }

    /// What came behind the last line's end.
    pub(super) fn rest(&self) -> &[u8] {
        &self.rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(parts: &[&[u8]], max: usize) -> Result<(Vec<Vec<u8>>, Vec<u8>), TooLong> {
        let mut lines = Lines::new(max);
        let mut found = Vec::new();
        for part in parts {
            lines.push(part, |line| {
                found.push(line.to_vec());
                Ok::<_, TooLong>(())
            })?;
        }
        Ok((found, lines.rest().to_vec()))
    }

    #[test]
    fn a_line_may_have_as_many_bytes_as_allowed_and_not_one_more() {
        assert_eq!(cut(&[b"ab", b"cd\n"], 4), Ok((vec![b"abcd".to_vec()], vec![])));
        assert_eq!(cut(&[b"ab", b"cd"], 4), Ok((vec![], b"abcd".to_vec())));
        for endless in [&[&b"ab"[..], b"cde"][..], &[b"abcde\n"], &[b"x\nabc", b"de\n"]] {
            assert_eq!(cut(endless, 4), Err(TooLong));
        }
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_the_bytes_arrive(
            text in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..200),
            size in 1usize..50,
        ) {
            let parts: Vec<_> = text.chunks(size).collect();
            let (mut found, rest) = cut(&parts, 1000).expect("short");
            found.push(rest);
            let expected: Vec<_> = text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
