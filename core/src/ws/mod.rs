//! RFC 6455 without sockets: opening handshake, frame decoder, frame encoder.
//!
//! ```text
//!  bytes read ──▶ Decoder ──▶ Message ──▶ (dialect)          bytes to write
//!                  │  ▲                                            ▲
//!                  ▼  │ only while a frame or message is          │
//!                 Partial  incomplete; freed at rest        encoder::put_*
//! ```
//!
//! Both roles are served: [`Role::Server`] reads masked frames, [`Role::Client`] reads unmasked ones.
//! No extension is negotiated, so a reserved bit is always an error.
//!
//! This module knows nothing of sockets, dialects, channels or time: bytes come in as slices and go out into
//! a buffer the caller owns. Nothing here blocks or is shared; any thread may own a [`Decoder`].
//!
//! The wire format is tungstenite's where it can be: its frame header codec, close codes and handshake check.
//! Its `WebSocket` object is not used, because that owns a read buffer per connection.

mod close;
mod decoder;
mod encoder;
mod error;
mod handshake;
mod header;
mod mask;
mod partial;

pub use close::{CloseFrame, is_sendable_close_code};
pub use decoder::{DecodeLimits, Decoded, Decoder, Message, Messages, Role};
pub use encoder::{
    Fin, MAX_CLOSE_REASON_LEN, MAX_HEADER_LEN, MAX_UNMASKED_HEADER_LEN, header_len, put_close, put_frame,
    put_header, put_header_at_end, put_masked_frame, sent_payload,
};
pub use error::ProtocolError;
pub use handshake::{
    Accept, HandshakeError, ResponseError, Upgrade, check_response, put_request, put_response,
};
pub use header::{MAX_CONTROL_LEN, OpCode, data_frames};
pub use mask::{apply_mask, apply_mask_plain};
