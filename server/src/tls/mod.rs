//! TLS on the data port: rustls, driven by the worker's own loop.
//!
//! ```text
//!   socket ─▶ ciphertext (the worker's) ─▶ Tls::read ─▶ the worker's read buffer ─▶ as without TLS
//!   socket ◀─ records ◀─ Tls, sealed 16 KiB at a time ◀─ runs and answers, as without TLS
//! ```
//!
//! `identity` reads certificates and keys and answers the name that a client asks for, `settings` says what
//! is spoken, `session` is one connection's state. At rest a session holds no buffers: rustls's unbuffered
//! interface works in the worker's. No file is read and no thread is started here once the server runs.

mod identity;
mod session;
mod settings;

pub(crate) use self::{
    identity::{Identity, IdentityError, Pem, Validity},
    session::{Received, SocketState, Tls, TlsWriter, WriteScratch},
    settings::TlsSettings,
};
