//! Requests of the server to other servers, over HTTP/1.1 with or without TLS.
//!
//! ```text
//!   url, authorities ─▶ Endpoint::connect ─▶ Connection ─▶ exchange(request) ─▶ Reply
//!                           ▲                   ▲                                 │
//!                     Endpoint::get             └─────── for another request ─────┘
//! ```
//!
//! The server on the other end is hostile: its head and its body are bounded here, and its time is bounded by
//! the caller, or by `Endpoint::get`. A request is never sent twice, and no redirect is followed. Everything
//! here runs in the caller's tokio runtime, on no worker.

mod address;
mod authorities;
mod connection;
mod endpoint;
mod get;

pub(crate) use self::{
    address::PlainHttp,
    connection::{Connection, ExchangeError, Reply},
    endpoint::{Endpoint, EndpointError},
    get::Bounds,
};
