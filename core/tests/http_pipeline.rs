//! A connection's worth of HTTP, end to end: pipelined requests in any number of pieces against a plain
//! reference.
//!
//! [`replay`] reads a connection the way a server does, with a stash for what is incomplete. The fuzz target
//! `http_request` includes this file for it, so both judge splitting by the same reader.

use fanfare_core::http::{BodyDecoder, HeadScan, HttpError, HttpLimits, resume_head};

/// One request as it came out of the codec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Method and target, as sent.
    pub line: (String, String),
    /// Names and values, as sent.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body, decoded.
    pub body: Vec<u8>,
}

/// Everything a connection yielded: its requests, what stopped it, and what was left of an unfinished
/// request.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Transcript {
    /// The complete requests, in order.
    pub requests: Vec<Request>,
    /// The error that ended the connection.
    pub error: Option<HttpError>,
    /// Whether a request had begun when the input ended.
    pub unfinished: bool,
}

/// Reads the connection whose bytes arrive as `pieces`.
pub fn replay<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, limits: HttpLimits) -> Transcript {
    let mut reader = Reader::default();
    for piece in pieces {
        reader.stash.extend_from_slice(piece);
        if let Err(error) = reader.drain(limits) {
            reader.transcript.error = Some(error);
            return reader.transcript;
        }
    }
    reader.transcript.unfinished = reader.open.is_some() || !reader.stash.is_empty();
    reader.transcript
}

#[derive(Default)]
struct Reader {
    stash: Vec<u8>,
    scan: HeadScan,
    open: Option<(Request, BodyDecoder)>,
    transcript: Transcript,
}

impl Reader {
    /// Decodes all the stash allows.
    fn drain(&mut self, limits: HttpLimits) -> Result<(), HttpError> {
        loop {
            if self.open.is_none() && !self.open_request(limits)? {
                return Ok(());
            }
            let Some((request, decoder)) = &mut self.open else { return Ok(()) };
            let (consumed, done) = decoder.decode(&self.stash, &mut request.body)?;
            assert!(consumed <= self.stash.len() && (done || consumed == self.stash.len()));
            assert!(request.body.len() <= limits.body_bytes, "the body stays within its limit");
            assert!(request.body.capacity() <= 2 * request.body.len() + 64, "nothing is reserved by claim");
            self.stash.drain(..consumed);
            if !done {
                return Ok(());
            }
            self.transcript.requests.extend(self.open.take().map(|(request, _)| request));
        }
    }

    /// Opens the request whose head starts the stash; `false` when the head is incomplete.
    fn open_request(&mut self, limits: HttpLimits) -> Result<bool, HttpError> {
        let Some((head, length)) = resume_head(&self.stash, limits, &mut self.scan)? else {
            assert!(self.stash.len() < limits.head_bytes, "an incomplete head is below the limit");
            return Ok(false);
        };
        assert!(0 < length && length <= self.stash.len().min(limits.head_bytes));
        let line = (head.method.to_owned(), head.target.to_owned());
        let headers = head.headers().map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
        self.open = Some((Request { line, headers, body: Vec::new() }, BodyDecoder::new(head.body, limits)));
        self.stash.drain(..length);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{Just, Strategy, any, prop_assert_eq, prop_oneof, proptest};
    use proptest::sample::select;

    use super::*;

    const LIMITS: HttpLimits = HttpLimits { head_bytes: 1024, headers: 16, body_bytes: 256 };

    /// A request to be sent: what must come out, and the bytes that say it.
    #[derive(Debug, Clone)]
    struct Sent {
        request: Request,
        bytes: Vec<u8>,
    }

    /// How a body is sent: whole, or as chunks with extensions, then trailers.
    #[derive(Debug, Clone)]
    enum Framed {
        Absent,
        Length(Vec<u8>),
        Chunks(Vec<(Vec<u8>, &'static str)>, &'static str),
    }

    fn framed() -> impl Strategy<Value = Framed> {
        let chunk = (vec(any::<u8>(), 1..20), select(vec!["", ";a", " ;a=b", ";q=\"x;y\""]));
        let trailers = select(vec!["", "X-T: 1\r\n", "Content-Length: 9\r\nA:\r\n"]);
        prop_oneof![
            Just(Framed::Absent),
            vec(any::<u8>(), 0..200).prop_map(Framed::Length),
            (vec(chunk, 0..10), trailers).prop_map(|(chunks, trailers)| Framed::Chunks(chunks, trailers)),
        ]
    }

    fn sent() -> impl Strategy<Value = Sent> {
        let method = select(vec!["GET", "POST", "PUT", "X-Y"]);
        let target = "/[a-z0-9%/]{0,12}(\\?[a-z=&+]{0,12})?";
        let field = ("X-[A-Za-z0-9_]{1,8}", "([!-~]([ -~]{0,10}[!-~])?)?", "[ \t]{0,2}");
        (method, target, vec(field, 0..6), framed()).prop_map(|(method, target, fields, framed)| {
            let line = (method.to_owned(), target);
            write(line, &fields, &framed)
        })
    }

    /// The plain reference: a request written the long way. Odd ones begin with the tolerated empty line.
    fn write(line: (String, String), fields: &[(String, String, String)], framed: &Framed) -> Sent {
        let mut headers = vec![("Host".to_owned(), b"h".to_vec())];
        let mut head = if fields.len() % 2 == 1 { "\r\n".to_owned() } else { String::new() };
        head += &format!("{} {} HTTP/1.1\r\nHost: h\r\n", line.0, line.1);
        for (name, value, space) in fields {
            head += &format!("{name}:{space}{value}{space}\r\n");
            headers.push((name.clone(), value.clone().into_bytes()));
        }
        let (field, body, encoded) = write_body(framed);
        if let Some((name, value)) = field {
            head += &format!("{name}: {value}\r\n");
            headers.push((name.to_owned(), value.into_bytes()));
        }
        head += "\r\n";
        Sent { request: Request { line, headers, body }, bytes: [head.into_bytes(), encoded].concat() }
    }

    /// The framing field, the body, and the body as sent.
    fn write_body(framed: &Framed) -> (Option<(&'static str, String)>, Vec<u8>, Vec<u8>) {
        match framed {
            Framed::Absent => (None, vec![], vec![]),
            Framed::Length(body) => {
                (Some(("content-length", body.len().to_string())), body.clone(), body.clone())
            }
            Framed::Chunks(chunks, trailers) => {
                let mut encoded = Vec::new();
                for (chunk, extension) in chunks {
                    encoded.extend(format!("{:x}{extension}\r\n", chunk.len()).into_bytes());
                    encoded.extend_from_slice(chunk);
                    encoded.extend_from_slice(b"\r\n");
                }
                encoded.extend(format!("0\r\n{trailers}\r\n").into_bytes());
                let body = chunks.iter().flat_map(|(chunk, _)| chunk.clone()).collect();
                (Some(("transfer-encoding", "chunked".to_owned())), body, encoded)
            }
        }
    }

    /// Cuts `bytes` into pieces of these lengths, over and over.
    fn cut<'a>(bytes: &'a [u8], lengths: &[usize]) -> Vec<&'a [u8]> {
        let mut rest = bytes;
        let mut pieces = Vec::new();
        for &length in lengths.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at(length.min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        pieces
    }

    #[test]
    fn pipelined_requests_come_out_in_order_with_exact_bodies() {
        let bytes = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc\
            PUT /b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n\r\n\
            GET /c HTTP/1.1\r\nHost: h\r\n\r\nGET /unfinished";
        for length in 1..=bytes.len() {
            let transcript = replay(cut(bytes, &[length]), LIMITS);
            let seen: Vec<_> =
                transcript.requests.iter().map(|request| (&*request.line.1, &*request.body)).collect();
            let expected: Vec<(&str, &[u8])> = vec![("/a", b"abc"), ("/b", b"de"), ("/c", b"")];
            assert_eq!(
                (seen, transcript.error, transcript.unfinished),
                (expected, None, true),
                "by {length}"
            );
        }
    }

    #[test]
    fn request_hidden_behind_two_framings_is_never_read() {
        let bytes = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 40\r\nTransfer-Encoding: chunked\r\n\r\n\
            0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: h\r\n\r\n";
        let expected = Transcript { error: Some(HttpError::Framing), ..Transcript::default() };
        assert_eq!(replay([bytes.as_slice()], LIMITS), expected);
    }

    proptest! {
        #[test]
        fn valid_requests_decode_to_what_was_sent(all in vec(sent(), 0..6), lengths in vec(1..40usize, 1..8)) {
            let bytes = all.iter().flat_map(|sent| sent.bytes.clone()).collect::<Vec<u8>>();
            let requests = all.into_iter().map(|sent| sent.request).collect();
            let expected = Transcript { requests, error: None, unfinished: false };
            prop_assert_eq!(replay(cut(&bytes, &lengths), LIMITS), expected);
        }

        #[test]
        fn splitting_changes_nothing_even_for_damaged_requests(
            all in vec(sent(), 1..4),
            damage in vec((any::<usize>(), select(b"\r\n :;,0\0x\xff".to_vec()), any::<bool>()), 0..4),
            head_bytes in 1..300usize,
            lengths in vec(1..40usize, 1..8),
        ) {
            let mut bytes = all.iter().flat_map(|sent| sent.bytes.clone()).collect::<Vec<u8>>();
            for (at, byte, insert) in damage {
                let at = at % bytes.len();
                if insert { bytes.insert(at, byte) } else { bytes[at] = byte }
            }
            let limits = HttpLimits { head_bytes, headers: 6, body_bytes: 64 };
            let whole = replay([bytes.as_slice()], limits);
            prop_assert_eq!(&replay(cut(&bytes, &lengths), limits), &whole);
            prop_assert_eq!(&replay(cut(&bytes, &[1]), limits), &whole);
        }
    }
}
