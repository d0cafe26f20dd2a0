//! Where a head ends.
//!
//! Owns the line structure of a head and its size limit; knows nothing of what the lines say. httparse takes
//! a bare LF for a line end, which others do not, so line ends are judged here and httparse only ever sees
//! heads whose every CR is followed by LF and every LF preceded by CR.

use memchr::memchr2;

use super::{HttpError, HttpLimits};

/// How far the search for the end of a head has come, kept beside the bytes of a head that is still arriving.
///
/// With it, a head that arrives a byte at a time is searched once in all instead of once a byte. `scanned`
/// bytes are known to hold neither the end nor a bad line end; it never exceeds the length of the input it
/// was last shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HeadScan {
    scanned: usize,
}

impl HeadScan {
    /// Looks for the end of the head at the start of `input`, which must begin with the bytes of the call
    /// before. `Ok(Some(n))`: the head is `input[..n]`, its empty line and one tolerated empty line before it
    /// included (RFC 9112 section 2.2). `Ok(None)`: it needs more bytes.
    ///
    /// # Errors
    /// [`HttpError::LineEnding`], [`HttpError::RequestLine`] for a second leading empty line, and
    /// [`HttpError::HeadTooLarge`] as soon as `limits.head_bytes` bytes hold no end.
    pub fn find_end(&mut self, input: &[u8], limits: HttpLimits) -> Result<Option<usize>, HttpError> {
        let window = &input[..input.len().min(limits.head_bytes)];
        let mut at = self.scanned.min(window.len());
        while let Some(found) = memchr2(b'\r', b'\n', &window[at..]) {
            let line_end = at + found;
            if window[line_end] == b'\n' {
                return Err(HttpError::LineEnding);
            }
            match window.get(line_end + 1) {
                Some(b'\n') => {}
                Some(_) => return Err(HttpError::LineEnding),
                None => {
                    // The LF may be the next byte to arrive, so this CR is looked at again.
                    self.scanned = line_end;
                    return none_within(input, limits);
                }
            }
            if window[..line_end].ends_with(b"\r\n") {
                return if line_end == 2 { Err(HttpError::RequestLine) } else { Ok(Some(line_end + 2)) };
            }
            at = line_end + 2;
        }
        self.scanned = window.len();
        none_within(input, limits)
    }
}

/// The start of the first line that is not the one tolerated empty line.
pub(super) fn first_line_start(input: &[u8]) -> usize {
    if input.starts_with(b"\r\n") { 2 } else { 0 }
}

fn none_within(input: &[u8], limits: HttpLimits) -> Result<Option<usize>, HttpError> {
    if input.len() >= limits.head_bytes { Err(HttpError::HeadTooLarge) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HttpLimits = HttpLimits { head_bytes: 64, headers: 8, body_bytes: 0 };

    #[test]
    fn scanning_byte_by_byte_looks_at_each_byte_at_most_twice() {
        let head = b"\r\nGET / HTTP/1.1\r\nHost: h\r\nA: b\r\n\r\n";
        let mut scan = HeadScan::default();
        for len in 0..head.len() {
            assert_eq!(scan.find_end(&head[..len], LIMITS), Ok(None));
            assert!(scan.scanned + 1 >= len, "only a trailing CR may be left for the next call");
        }
        assert_eq!(scan.find_end(head, LIMITS), Ok(Some(head.len())));
    }

    #[test]
    fn resuming_finds_the_same_end_as_starting_over() {
        let input = b"A\r\nB: c\r\n\r\nrest\r\n\r\n";
        for split in 0..input.len() {
            let mut scan = HeadScan::default();
            let first = scan.find_end(&input[..split], LIMITS).expect("well formed");
            let end = first.or_else(|| scan.find_end(input, LIMITS).expect("well formed"));
            assert_eq!(end, Some(11), "split at {split}");
        }
    }

    #[test]
    fn a_scan_of_longer_input_does_not_outrun_shorter_input() {
        let mut scan = HeadScan { scanned: 1000 };
        assert_eq!(scan.find_end(b"GET", LIMITS), Ok(None));
    }

    #[test]
    fn end_on_the_last_permitted_byte_is_accepted_and_one_later_refused() {
        let head = b"A\r\nB: c\r\n\r\n";
        let limits = |head_bytes| HttpLimits { head_bytes, ..LIMITS };
        assert_eq!(HeadScan::default().find_end(head, limits(11)), Ok(Some(11)));
        assert_eq!(HeadScan::default().find_end(head, limits(10)), Err(HttpError::HeadTooLarge));
        assert_eq!(HeadScan::default().find_end(&head[..10], limits(10)), Err(HttpError::HeadTooLarge));
        assert_eq!(HeadScan::default().find_end(&head[..9], limits(10)), Ok(None));
    }
}
