//! Bodies, a piece at a time.
//!
//! Owns the undoing of the two framings, Content-Length and chunked (RFC 9112 section 7.1). Must not know
//! what a body means. The decoder is a few words; bytes go straight from the input to the caller's vector,
//! which grows by what arrived and never by what was claimed.
//!
//! ```text
//! Fixed ───────────────────────────────────────────────────────────────────────────────────▶ Done
//!
//! Size ─▶ (Padding ─▶) (Extension ─▶) SizeLf ─▶ Data ─▶ DataCr ─▶ DataLf ─▶ Size             ▲
//!                                        └ size 0 ─▶ Trailer ─▶ EndLf ───────────────────────┘
//!                                                     │  ▲
//!                                   TrailerName ◀─────┘  └── TrailerLf ◀── TrailerValue ◀── TrailerName
//! ```

use super::headers::{is_token_byte, is_value_byte};
use super::{BodyFraming, HttpError, HttpLimits};

/// Digits of a chunk size; enough for any `u64`, and a bound on leading zeros.
const SIZE_DIGITS: u8 = 16;

/// Decodes one body from any number of pieces.
#[derive(Debug, Clone)]
pub struct BodyDecoder {
    state: State,
    /// Body bytes that may still be accepted.
    room: u64,
    /// Bytes of chunk extensions and trailers that may still be skipped, over the whole body.
    overhead: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Fixed { left: u64 },
    Size { size: u64, digits: u8 },
    Padding { size: u64 },
    Extension { size: u64 },
    SizeLf { size: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    Trailer,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
}

impl BodyDecoder {
    /// A decoder for the body that follows a head with this framing.
    pub fn new(framing: BodyFraming, limits: HttpLimits) -> Self {
        let state = match framing {
            BodyFraming::None | BodyFraming::Length(0) => State::Done,
            BodyFraming::Length(left) => State::Fixed { left },
            BodyFraming::Chunked => State::Size { size: 0, digits: 0 },
        };
        Self { state, room: limits.body_bytes as u64, overhead: limits.head_bytes as u64 }
    }

    /// Appends what `input` holds of the body to `out`: how many bytes of `input` were consumed, and whether
    /// the body is complete. Unless it is complete, all of `input` was consumed; bytes not consumed follow
    /// the body.
    ///
    /// # Errors
    /// [`HttpError::Chunk`], [`HttpError::ChunkOverhead`], and [`HttpError::BodyTooLarge`] as soon as the
    /// length or a chunk's size says so, before any of those bytes are kept. A decoder that failed is not
    /// used again.
    pub fn decode(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(usize, bool), HttpError> {
        if matches!(self.state, State::Fixed { left } if left > self.room) {
            return Err(HttpError::BodyTooLarge);
        }
        let mut consumed = 0;
        while self.state != State::Done && consumed < input.len() {
            consumed += match self.state {
                State::Fixed { left } | State::Data { left } => self.take(left, &input[consumed..], out),
                _ => self.step(input[consumed])?,
            };
        }
        Ok((consumed, self.is_done()))
    }

    /// Whether the body is complete.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Moves up to `left` bytes of body to `out`; `0 < left <= room`.
    fn take(&mut self, left: u64, input: &[u8], out: &mut Vec<u8>) -> usize {
        let taken = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
        out.extend_from_slice(&input[..taken]);
        self.room -= taken as u64;
        let left = left - taken as u64;
        self.state = match self.state {
            State::Fixed { .. } if left == 0 => State::Done,
            State::Fixed { .. } => State::Fixed { left },
            _ if left == 0 => State::DataCr,
            _ => State::Data { left },
        };
        taken
    }

    /// Advances over one byte that is framing and not body.
    fn step(&mut self, byte: u8) -> Result<usize, HttpError> {
        self.state = match (self.state, byte) {
            (State::Size { size, digits }, _) => self.step_size(size, digits, byte)?,
            (State::Padding { size }, b' ' | b'\t') => self.skip(State::Padding { size })?,
            (State::Padding { size }, b';') => self.skip(State::Extension { size })?,
            (State::Extension { size }, b'\r') => State::SizeLf { size },
            (State::Extension { size }, _) if is_value_byte(byte) => self.skip(State::Extension { size })?,
            (State::SizeLf { size: 0 }, b'\n') => State::Trailer,
            (State::SizeLf { size }, b'\n') => State::Data { left: size },
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size { size: 0, digits: 0 },
            (State::Trailer, b'\r') => State::EndLf,
            (State::Trailer | State::TrailerName, _) if is_token_byte(byte) => {
                self.skip(State::TrailerName)?
            }
            (State::TrailerName, b':') => self.skip(State::TrailerValue)?,
            (State::TrailerValue, b'\r') => self.skip(State::TrailerLf)?,
            (State::TrailerValue, _) if is_value_byte(byte) => self.skip(State::TrailerValue)?,
            (State::TrailerLf, b'\n') => State::Trailer,
            (State::EndLf, b'\n') => State::Done,
            _ => return Err(HttpError::Chunk),
        };
        Ok(1)
    }

    /// One byte of a chunk's size line. The size is judged digit by digit, so it can neither overflow nor
    /// pass the limit unseen.
    fn step_size(&mut self, size: u64, digits: u8, byte: u8) -> Result<State, HttpError> {
        if let Some(digit) = char::from(byte).to_digit(16) {
            if digits == SIZE_DIGITS {
                return Err(HttpError::Chunk);
            }
            let size = size.checked_mul(16).and_then(|size| size.checked_add(u64::from(digit)));
            let size = size.filter(|&size| size <= self.room).ok_or(HttpError::BodyTooLarge)?;
            return Ok(State::Size { size, digits: digits + 1 });
        }
        match byte {
            _ if digits == 0 => Err(HttpError::Chunk),
            b'\r' => Ok(State::SizeLf { size }),
            b';' => self.skip(State::Extension { size }),
            b' ' | b'\t' => self.skip(State::Padding { size }),
            _ => Err(HttpError::Chunk),
        }
    }

    /// Charges one byte that carries no body.
    fn skip(&mut self, next: State) -> Result<State, HttpError> {
        self.overhead = self.overhead.checked_sub(1).ok_or(HttpError::ChunkOverhead)?;
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HttpLimits = HttpLimits { head_bytes: 32, headers: 8, body_bytes: 16 };

    fn decode(framing: BodyFraming, input: &[u8]) -> Result<(Vec<u8>, usize, bool), HttpError> {
        let mut out = Vec::new();
        let (consumed, done) = BodyDecoder::new(framing, LIMITS).decode(input, &mut out)?;
        Ok((out, consumed, done))
    }

    fn chunked(input: &str) -> Result<(Vec<u8>, usize, bool), HttpError> {
        decode(BodyFraming::Chunked, input.as_bytes())
    }

    fn refusal(input: &str) -> HttpError {
        chunked(input).expect_err("refused")
    }

    #[test]
    fn no_body_is_done_without_a_byte() {
        assert_eq!(decode(BodyFraming::None, b"next"), Ok((vec![], 0, true)));
        assert_eq!(decode(BodyFraming::Length(0), b"next"), Ok((vec![], 0, true)));
    }

    #[test]
    fn length_takes_its_bytes_and_leaves_the_next_request() {
        assert_eq!(decode(BodyFraming::Length(4), b"bodyGET"), Ok((b"body".to_vec(), 4, true)));
        assert_eq!(decode(BodyFraming::Length(4), b"bo"), Ok((b"bo".to_vec(), 2, false)));
    }

    #[test]
    fn length_over_the_limit_is_refused_before_a_byte_is_kept() {
        let mut out = Vec::new();
        let mut decoder = BodyDecoder::new(BodyFraming::Length(17), LIMITS);
        assert_eq!(decoder.decode(b"0123456789abcdefg", &mut out), Err(HttpError::BodyTooLarge));
        assert_eq!(out.capacity(), 0);
    }

    #[test]
    fn length_of_the_whole_address_space_reserves_only_what_arrived() {
        let limits = HttpLimits { body_bytes: usize::MAX, ..LIMITS };
        let mut out = Vec::new();
        let mut decoder = BodyDecoder::new(BodyFraming::Length(u64::MAX), limits);
        assert_eq!(decoder.decode(b"tiny", &mut out), Ok((4, false)));
        assert!(out.capacity() < 64);
    }

    #[test]
    fn chunks_are_joined_and_the_next_request_is_left() {
        let body = "3\r\nabc\r\n0A\r\n0123456789\r\n0\r\n\r\n";
        let (out, consumed, done) = chunked(&format!("{body}GET")).expect("valid");
        assert_eq!((out.as_slice(), consumed, done), (b"abc0123456789".as_slice(), body.len(), true));
    }

    #[test]
    fn every_split_of_a_chunked_body_decodes_alike() {
        let body = b"3;a=b\r\nabc\r\n2 ;x\r\nde\r\n0\r\nT: v\r\n\r\nrest";
        for split in 0..body.len() {
            let mut out = Vec::new();
            let mut decoder = BodyDecoder::new(BodyFraming::Chunked, LIMITS);
            let (first, done) = decoder.decode(&body[..split], &mut out).expect("valid");
            assert!(done || first == split);
            let (second, done) = decoder.decode(&body[first..], &mut out).expect("valid");
            assert!(done);
            assert_eq!((first + second, out.as_slice()), (body.len() - 4, b"abcde".as_slice()), "at {split}");
        }
    }

    #[test]
    fn extensions_and_trailers_are_discarded() {
        let (out, _, done) = chunked("1;name=\"v\"\r\na\r\n0\r\nX-A: 1\r\nX-B:\r\n\r\n").expect("valid");
        assert_eq!((out.as_slice(), done), (b"a".as_slice(), true));
    }

    #[test]
    fn extensions_over_their_bound_are_refused() {
        assert_eq!(refusal(&format!("1;{}\r\n", "x".repeat(32))), HttpError::ChunkOverhead);
    }

    #[test]
    fn extensions_of_many_chunks_share_one_bound() {
        assert_eq!(refusal(&"1;xxx\r\na\r\n".repeat(9)), HttpError::ChunkOverhead);
    }

    #[test]
    fn padding_over_its_bound_is_refused() {
        assert_eq!(refusal(&format!("1{}", " ".repeat(33))), HttpError::ChunkOverhead);
    }

    #[test]
    fn trailers_over_their_bound_are_refused() {
        assert_eq!(refusal(&format!("0\r\nX: {}\r\n\r\n", "y".repeat(32))), HttpError::ChunkOverhead);
    }

    #[test]
    fn chunk_size_overflow_is_refused() {
        assert_eq!(refusal("ffffffffffffffffff\r\n"), HttpError::BodyTooLarge);
        let limits = HttpLimits { body_bytes: usize::MAX, ..LIMITS };
        let mut decoder = BodyDecoder::new(BodyFraming::Chunked, limits);
        assert_eq!(decoder.decode(b"10000000000000000\r\n", &mut Vec::new()), Err(HttpError::Chunk));
    }

    #[test]
    fn chunk_over_the_limit_is_refused_from_its_size_line() {
        assert_eq!(refusal("11"), HttpError::BodyTooLarge);
    }

    #[test]
    fn chunks_that_together_pass_the_limit_are_refused() {
        assert_eq!(refusal("f\r\n0123456789abcde\r\n2"), HttpError::BodyTooLarge);
        assert!(chunked("f\r\n0123456789abcde\r\n1\r\nf\r\n0\r\n\r\n").is_ok());
    }

    #[test]
    fn chunk_size_of_endless_zeros_is_refused() {
        assert_eq!(refusal("00000000000000001\r\n"), HttpError::Chunk);
    }

    #[test]
    fn chunk_size_that_is_no_hexadecimal_number_is_refused() {
        for size in [
            "\r\n", ";x\r\n", "+1\r\n", "-1\r\n", "0x1\r\n", " 1\r\n", "1 1\r\n", "1 \r\n", "1_0\r\n",
            "g\r\n",
        ] {
            assert_eq!(refusal(size), HttpError::Chunk, "{size:?}");
        }
    }

    #[test]
    fn bare_line_ends_in_chunked_framing_are_refused() {
        for body in [
            "1\na\r\n0\r\n\r\n",
            "1\rxa\r\n",
            "1;x\na\r\n",
            "1;x\ry\r\na\r\n",
            "1\r\na\n0\r\n\r\n",
            "1\r\na\rx",
            "0\r\n\n",
            "0\r\n\rx",
            "0\r\nX: y\n\r\n",
            "0\r\nX: y\rz",
        ] {
            assert_eq!(refusal(body), HttpError::Chunk, "{body:?}");
        }
    }

    #[test]
    fn chunk_longer_than_its_size_is_refused() {
        assert_eq!(refusal("1\r\nab\r\n"), HttpError::Chunk);
    }

    #[test]
    fn malformed_trailers_are_refused() {
        for trailer in [" X: y\r\n\r\n", "X : y\r\n\r\n", ": y\r\n\r\n", "X\r\n\r\n", "X: \0\r\n\r\n"] {
            assert_eq!(refusal(&format!("0\r\n{trailer}")), HttpError::Chunk, "{trailer:?}");
        }
    }
}
