//! HTTP/1.1, sans I/O: heads, bodies and queries in; responses out.
//!
//! Owns the wire format of RFC 9110 and RFC 9112 and nothing above it: no routes, no dialects, no sockets, no
//! clock. Everything here is a pure function of the bytes given, so any thread may call it.
//!
//! ```text
//!            ┌── HeadScan ──┐    ┌──────── parse_head ────────┐    ┌─ BodyDecoder ─┐
//!  bytes ──▶ │ where it ends│ ─▶ │ fields, target, framing    │ ─▶ │ Length,Chunked│ ──▶ body, and the bytes
//!            └──────────────┘    └────────────────────────────┘    └───────────────┘     of the next request
//! ```
//!
//! Invariants:
//! - A consumed count is exact. The bytes after it belong to the next request of the connection.
//! - Splitting the input differently changes neither what is decoded nor which error ends it.
//! - Whatever two readers could frame differently is refused (request smuggling, RFC 9112 section 11.2): the
//!   parser prefers turning away an odd request to guessing what it meant.
//! - Every limit is checked before the bytes it bounds are kept, and no claimed length reserves memory.

mod body;
mod error;
mod forwarded;
mod framing;
mod headers;
mod query;
mod request;
mod response;
mod response_head;
mod scan;

pub use body::BodyDecoder;
pub use error::HttpError;
pub use forwarded::{ForwardingHeader, client_address};
pub use framing::{BodyFraming, Persistence};
pub use headers::{Headers, MAX_HEADERS};
pub use query::{Query, percent_decode, query_value};
pub use request::{Head, parse_head, resume_head};
pub use response::{Response, cut_body, put_error, put_head, put_problem, put_response};
pub use response_head::{ResponseHead, parse_response_head};
pub use scan::HeadScan;

/// What one request may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpLimits {
    /// Bytes of a head, from its first byte to the empty line that ends it, both included. The same number
    /// bounds the chunk extensions and trailers of a body, all of them together.
    pub head_bytes: usize,
    /// Header fields of a head; more than [`MAX_HEADERS`] means [`MAX_HEADERS`].
    pub headers: usize,
    /// Bytes of a body once its transfer coding is undone.
    pub body_bytes: usize,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self { head_bytes: 8 * 1024, headers: MAX_HEADERS, body_bytes: 1024 * 1024 }
    }
}
