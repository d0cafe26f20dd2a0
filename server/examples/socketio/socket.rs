//! A socket: what was read and is not consumed, what is to be written, and what the socket is for.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::Shutdown,
    sync::Arc,
};

use bytes::{Buf as _, BytesMut};
use fanfare_core::{
    http::{BodyDecoder, Persistence},
    ws::{Decoder, Fin, OpCode, put_header},
};
use mio::net::TcpStream;

/// Bytes read in one go.
const READ_BYTES: usize = 64 << 10;

/// What a socket is for.
pub(crate) enum Role {
    /// Between two requests, or in the middle of a head.
    Http,
    /// The body of a POST arrives.
    Post { sid: Arc<str>, body: Vec<u8>, decoder: BodyDecoder, persistence: Persistence },
    /// A poll is held.
    Poll { sid: Arc<str>, persistence: Persistence },
    /// A WebSocket: the session's own, or the one that probes. Which one, the session knows.
    WebSocket { sid: Arc<str>, decoder: Decoder },
    /// What was written is the last; what still arrives is thrown away.
    Closing,
}

/// Whether a socket lives.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(crate) enum Life {
    On,
    Over,
}

pub(crate) struct Socket {
    pub(crate) stream: TcpStream,
    pub(crate) input: Vec<u8>,
    pub(crate) output: BytesMut,
    pub(crate) role: Role,
    /// When the socket is closed if it has not become part of a session, in milliseconds.
    pub(crate) deadline_ms: u64,
    is_shut: bool,
}

impl Socket {
    pub(crate) fn new(stream: TcpStream, deadline_ms: u64) -> Self {
        let (input, output) = (Vec::new(), BytesMut::new());
        Self { stream, input, output, role: Role::Http, deadline_ms, is_shut: false }
    }

    /// Reads until there is nothing left, or more than `limit` bytes wait; a peer that sends more than it may
    /// loses the socket.
    pub(crate) fn read(&mut self, limit: usize) -> Life {
        let mut buffer = [0; READ_BYTES];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Life::Over,
                Ok(_) if matches!(self.role, Role::Closing) => {}
                Ok(len) => self.input.extend_from_slice(&buffer[..len]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Life::On,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Life::Over,
            }
            if self.input.len() > limit {
                return Life::Over;
            }
        }
    }

    /// Writes what the kernel takes. When all of a closing socket's output is gone, its sending side is shut.
    pub(crate) fn flush(&mut self) -> Life {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(len) => self.output.advance(len),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Life::On,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Life::Over,
            }
        }
        if matches!(self.role, Role::Closing) && !self.is_shut {
            self.is_shut = true;
            if self.stream.shutdown(Shutdown::Write).is_err() {
                return Life::Over;
            }
        }
        Life::On
    }

    /// Sends a close frame without a code, and nothing after it.
    pub(crate) fn close_websocket(&mut self) {
        put_header(&mut self.output, OpCode::Close, Fin::Last, 0, None);
        self.role = Role::Closing;
    }
}
