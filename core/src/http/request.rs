//! Request heads.
//!
//! Owns the reading of a request's first lines: request line, target, fields, framing. Must not know routes
//! or dialects. A [`Head`] borrows the caller's bytes; between calls nothing is held but, if the caller wants
//! it, a [`HeadScan`].

use memchr::memchr;

use super::framing::{self, BodyFraming, Persistence};
use super::headers::{Headers, is_token_byte};
use super::scan::first_line_start;
use super::{HeadScan, HttpError, HttpLimits, Query};

#[cfg(test)]
mod tests;

/// The head of one request, borrowed from the bytes it was parsed from. About two kilobytes, on the stack.
#[derive(Debug, Clone)]
pub struct Head<'a> {
    /// The method as sent. Any token is a method; whether it is served is for the caller to say.
    pub method: &'a str,
    /// The target as sent: `/path?query`, `http://host/path?query`, or `*`.
    pub target: &'a str,
    /// The target's path, still percent-encoded: begins with `/`, or is `*`.
    pub path: &'a str,
    /// What follows the first `?` of the target, still percent-encoded.
    pub query: Option<&'a str>,
    /// 0 for HTTP/1.0, 1 for HTTP/1.1.
    pub minor_version: u8,
    /// Where the body ends. A length is within the limits given to the parser.
    pub body: BodyFraming,
    /// Whether the peer expects the connection to go on after the response.
    pub keep_alive: bool,
    /// Whether the peer waits for `100 Continue` before it sends the body, of which there is one.
    pub expect_continue: bool,
    /// The header fields.
    pub headers: Headers<'a>,
    authority: Option<&'a str>,
}

impl<'a> Head<'a> {
    /// The first value of the field `name`, compared without case.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers.first(name)
    }

    /// The first value of the field `name` when it is UTF-8.
    pub fn header_str(&self, name: &str) -> Option<&'a str> {
        self.headers.first_str(name)
    }

    /// Every field as it was written, in order.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + '_ {
        self.headers.iter()
    }

    /// How often the field `name` occurs.
    pub fn count(&self, name: &str) -> usize {
        self.headers.count(name)
    }

    /// The host the request is for, with its port if it names one: the target's when it is in absolute form,
    /// else the Host field's (RFC 9112 section 3.2.2). `None` only in HTTP/1.0.
    pub fn host(&self) -> Option<&'a str> {
        self.authority.or_else(|| self.header_str("host"))
    }

    /// The web origin a browser sent the request from.
    pub fn origin(&self) -> Option<&'a str> {
        self.header_str("origin")
    }

    /// The decoded pairs of the query; none when there is no query.
    pub fn query_pairs(&self) -> Query<'a> {
        Query::new(self.query.unwrap_or_default())
    }

    /// What a response to this request does to the connection.
    pub fn persistence(&self) -> Persistence {
        match (self.keep_alive, self.minor_version) {
            (false, _) => Persistence::Close,
            (true, 0) => Persistence::KeepAliveAsked,
            (true, _) => Persistence::KeepAlive,
        }
    }
}

/// Parses the request head at the start of `input`: the head and its length in bytes, or `None` when it needs
/// more. The caller keeps the bytes and calls again with more of them; one that expects heads in many pieces
/// uses [`resume_head`].
///
/// # Errors
/// Any [`HttpError`] about a head. The same bytes fail the same way however they were split.
pub fn parse_head(input: &[u8], limits: HttpLimits) -> Result<Option<(Head<'_>, usize)>, HttpError> {
    resume_head(input, limits, &mut HeadScan::default())
}

/// [`parse_head`] that goes on where the last call with the same `scan` gave up, so that a head in any number
/// of pieces costs linear time. `input` starts with the same bytes as in that call. Once a head is returned,
/// `scan` is fresh for the next one.
///
/// # Errors
/// As [`parse_head`].
pub fn resume_head<'a>(
    input: &'a [u8],
    limits: HttpLimits,
    scan: &mut HeadScan,
) -> Result<Option<(Head<'a>, usize)>, HttpError> {
    let start = first_line_start(input);
    let window = &input[..input.len().min(limits.head_bytes)];
    // A TLS hello or other noise is turned away at its first byte instead of at the head's deadline.
    if window.get(start).is_some_and(|&byte| !is_token_byte(byte) && byte != b'\r' && byte != b'\n') {
        return Err(HttpError::RequestLine);
    }
    let end = scan.find_end(input, limits).map_err(|error| blame_target(error, window))?;
    let Some(end) = end else { return Ok(None) };
    *scan = HeadScan::default();
    parse_complete(&input[start..end], limits).map(|head| Some((head, end)))
}

/// A head that is too large before its first line ended is a target too long. `window` is what the scan saw,
/// so the answer does not depend on what arrived beyond the limit.
fn blame_target(error: HttpError, window: &[u8]) -> HttpError {
    let first_line = window.get(first_line_start(window)..).unwrap_or_default();
    if error == HttpError::HeadTooLarge && memchr(b'\n', first_line).is_none() {
        HttpError::TargetTooLong
    } else {
        error
    }
}

fn parse_complete<'a>(lines: &'a [u8], limits: HttpLimits) -> Result<Head<'a>, HttpError> {
    let (line, headers) = Headers::fill(limits.headers, |fields| RequestLine::parse(lines, fields))?;
    let target = Target::parse(line.method, line.target)?;
    check_host(&headers, line.minor_version)?;
    let body = framing::request_framing(&headers, line.minor_version, limits)?;
    Ok(Head {
        method: line.method,
        target: line.target,
        path: target.path,
        query: target.query,
        minor_version: line.minor_version,
        body,
        keep_alive: framing::keep_alive(&headers, line.minor_version),
        // HTTP/1.0 has no interim responses, and nothing needs to wait for leave to send no body.
        expect_continue: line.minor_version >= 1
            && !body.is_empty()
            && headers.has_token("expect", "100-continue"),
        headers,
        authority: target.authority,
    })
}

/// The first line, as httparse reads it.
struct RequestLine<'a> {
    method: &'a str,
    target: &'a str,
    minor_version: u8,
}

impl<'a> RequestLine<'a> {
    /// The line, and how many of `fields` were filled from the lines after it.
    fn parse(lines: &'a [u8], fields: &mut [httparse::Header<'a>]) -> Result<(Self, usize), HttpError> {
        let mut request = httparse::Request::new(fields);
        let status = request.parse(lines).map_err(|error| refusal(error, lines))?;
        // The scan ended the head at its first empty line, where httparse must end it too.
        if status != httparse::Status::Complete(lines.len()) {
            return Err(HttpError::RequestLine);
        }
        let (Some(method), Some(target), Some(minor_version)) =
            (request.method, request.path, request.version)
        else {
            return Err(HttpError::RequestLine);
        };
        Ok((Self { method, target, minor_version }, request.headers.len()))
    }
}

fn refusal(error: httparse::Error, lines: &[u8]) -> HttpError {
    match error {
        httparse::Error::TooManyHeaders => HttpError::TooManyHeaders,
        httparse::Error::HeaderName | httparse::Error::HeaderValue => HttpError::Header,
        httparse::Error::Version if names_a_version(lines) => HttpError::Version,
        _ => HttpError::RequestLine,
    }
}

/// Whether the first line is well formed but for the number of its `HTTP/digit.digit`.
fn names_a_version(lines: &[u8]) -> bool {
    let line = lines.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|&byte| byte == b' ').skip(2);
    let (version, more) = (words.next().unwrap_or_default(), words.next());
    more.is_none()
        && matches!(version, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit())
}

/// A target taken apart (RFC 9112 section 3.2).
struct Target<'a> {
    authority: Option<&'a str>,
    path: &'a str,
    query: Option<&'a str>,
}

impl<'a> Target<'a> {
    fn parse(method: &str, target: &'a str) -> Result<Self, HttpError> {
        // CONNECT asks for a tunnel, whatever its target looks like; a fragment is never sent; and bytes
        // outside ASCII have to be percent-encoded.
        if method == "CONNECT" || !target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
            return Err(HttpError::Target);
        }
        if target == "*" {
            let asterisk = Self { authority: None, path: target, query: None };
            return if method == "OPTIONS" { Ok(asterisk) } else { Err(HttpError::Target) };
        }
        if target.starts_with('/') {
            return Ok(Self::origin_form(None, target));
        }
        let rest = strip_scheme(target).ok_or(HttpError::Target)?;
        let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.is_empty() || !is_host(authority.as_bytes()) {
            return Err(HttpError::Target);
        }
        Ok(Self::origin_form(Some(authority), rest))
    }

    /// `rest` is empty or begins with `/` or `?`; an empty path means the root.
    fn origin_form(authority: Option<&'a str>, rest: &'a str) -> Self {
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        Self { authority, path: if path.is_empty() { "/" } else { path }, query }
    }
}

fn strip_scheme(target: &str) -> Option<&str> {
    ["http://", "https://"].iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    })
}

/// Host is required once from HTTP/1.1 on, and may never be ambiguous.
fn check_host(headers: &Headers<'_>, minor_version: u8) -> Result<(), HttpError> {
    let mut values = headers.all("host");
    match (values.next(), values.next()) {
        (Some(host), None) if is_host(host) => Ok(()),
        (None, _) if minor_version == 0 => Ok(()),
        _ => Err(HttpError::Host),
    }
}

/// Whether every byte may stand in `host[:port]` (RFC 3986 section 3.2.2). An empty host is one.
fn is_host(host: &[u8]) -> bool {
    host.iter().all(|&byte| {
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'%' | b':' | b'[' | b']')
            || matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=')
    })
}
