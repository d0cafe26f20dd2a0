//! TLS on the data port: rustls, driven by the worker's own loop.
//!
//! ```text
//!   socket ─▶ ciphertext (the worker's) ─▶ Tls::read ─▶ the worker's read buffer ─▶ as without TLS
//!   socket ◀─ records ◀─ Tls, sealed 16 KiB at a time ◀─ runs and answers, as without TLS
//! ```
//!
//! `identity` reads certificates and chooses one by the client's name, `issued` has the certificates that an
//! authority issues, `settings` has the listener's parameters, `session` is the state of one connection,
//! and `records` is what is left of it after the handshake. A session at rest holds no buffers, because all
//! work is done in the worker's buffers.

mod identity;
mod issued;
mod records;
mod session;
mod settings;

pub(crate) use self::{
    identity::{Identity, IdentityError, Pem, Validity},
    issued::{Answering, Issued, Lifetime},
    session::{Received, SocketState, Tls, TlsWriter, WriteScratch},
    settings::{TlsSettings, roots},
};
