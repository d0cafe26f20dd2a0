//! Bytes of a stream in, messages out.
//!
//! The frames that matter (unfragmented, and wholly inside the bytes just read) are unmasked where they lie
//! and handed out as a slice of the input: no copy, no allocation. Everything else is the business of
//! [`Partial`], which exists only while something is incomplete, so that a decoder at rest is one null
//! pointer.
//!
//! Invariants:
//! - Every limit is checked on a frame's header, before a byte of its payload is kept.
//! - Memory follows the bytes received (at most twice as many), never what a header claims.
//! - Text is validated as it arrives, so the first bad byte is an error even if its frame never completes.
//! - How the stream is cut into chunks changes neither the messages nor the error.

#![allow(unsafe_code, reason = "text that is known to be ASCII is not looked at again")]

use super::ProtocolError;
use super::close::{self, CloseFrame};
use super::header::{Header, OpCode};
use super::mask::apply_mask;
use super::partial::{Partial, Ready};

/// Which end of the connection this is; it decides whether frames received must be masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Receives masked frames only.
    Server,
    /// Receives unmasked frames only.
    Client,
}

/// How large one message may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Payload bytes of a message, over all its fragments. More is [`ProtocolError::MessageTooLong`].
    pub message_bytes: usize,
    /// Frames of a fragmented message. More is [`ProtocolError::TooManyFragments`]. A message of one frame is
    /// never refused for it.
    pub fragments: usize,
}

/// One message, or one control frame. Borrows from the input or from the decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
    /// To be answered with a pong of the same payload, of at most 125 bytes.
    Ping(&'a [u8]),
    /// A pong, of at most 125 bytes.
    Pong(&'a [u8]),
    /// The peer closes, with a code or without. What follows it on the stream is to be ignored.
    Close(Option<CloseFrame<'a>>),
}

impl<'a> Message<'a> {
    /// Unmasks the payload of a frame that is a message by itself, and reads it.
    #[inline]
    fn unmask(header: &Header, payload: &'a mut [u8]) -> Result<Self, ProtocolError> {
        let is_ascii = apply_mask(payload, header.mask, 0);
        match header.opcode {
            // SAFETY: ASCII is UTF-8, and `apply_mask` has seen every byte of the payload.
            OpCode::Text if is_ascii => Ok(Message::Text(unsafe { std::str::from_utf8_unchecked(payload) })),
            opcode => Self::parse(opcode, payload),
        }
    }

    /// Reads the unmasked payload of a frame that is a message by itself.
    #[inline]
    pub(super) fn parse(opcode: OpCode, payload: &'a [u8]) -> Result<Self, ProtocolError> {
        match opcode {
            OpCode::Text => {
                std::str::from_utf8(payload).map(Message::Text).map_err(|_| ProtocolError::InvalidUtf8)
            }
            OpCode::Binary => Ok(Message::Binary(payload)),
            OpCode::Ping => Ok(Message::Ping(payload)),
            OpCode::Pong => Ok(Message::Pong(payload)),
            OpCode::Close => close::parse(payload).map(Message::Close),
            OpCode::Continuation => Err(ProtocolError::UnexpectedContinuation),
        }
    }
}

/// What one call of [`Decoder::decode`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoded<'a> {
    /// How many bytes of the input are done with. All of them if there is no message.
    pub consumed: usize,
    /// The next message; `None` means that more bytes are needed.
    pub message: Option<Message<'a>>,
}

/// The receiving half of a connection: eight bytes while nothing is incomplete.
///
/// Call [`decode`](Self::decode) with what was read until it yields no message, also when everything has been
/// consumed: the call that finds nothing left gives back the memory of the message before it.
///
/// ```
/// use fanfare_core::ws::{DecodeLimits, Decoder, Message, Role};
///
/// let limits = DecodeLimits { message_bytes: 1 << 20, fragments: 1024 };
/// let mut decoder = Decoder::new();
/// let mut input = *b"\x81\x05hello\x89\x00";
/// let mut at = 0;
/// let mut texts = 0;
/// loop {
///     let decoded = decoder.decode(&mut input[at..], Role::Client, limits)?;
///     at += decoded.consumed;
///     match decoded.message {
///         Some(Message::Text(text)) => texts += text.len(),
///         Some(_) => {}
///         None => break,
///     }
/// }
/// assert_eq!(texts, 5);
/// assert!(decoder.is_idle());
/// # Ok::<(), fanfare_core::ws::ProtocolError>(())
/// ```
#[derive(Debug, Default)]
pub struct Decoder {
    partial: Option<Box<Partial>>,
}

impl Decoder {
    /// A decoder at the start of a stream.
    pub const fn new() -> Self {
        Self { partial: None }
    }

    /// Whether the decoder holds nothing: neither a part of a frame or message, nor the last message.
    #[inline]
    pub const fn is_idle(&self) -> bool {
        self.partial.is_none()
    }

    /// Heap memory held, in bytes.
    pub fn buffered(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| size_of::<Partial>() + partial.buffered())
    }

    /// Takes bytes that were just read, in order, and yields at most one message.
    ///
    /// Input is consumed as far as the message needs; call again with `input[consumed..]`. Without a message
    /// all of the input has been taken over. Payload is unmasked in place, so consumed input is not to be
    /// used again. `role` is the same at every call; `limits` may change between messages.
    ///
    /// # Errors
    ///
    /// What the peer did wrong. The connection is to be closed with its
    /// [`close_code`](ProtocolError::close_code): the decoder has dropped what it held and does not know
    /// where the next frame begins.
    #[inline]
    pub fn decode<'a>(
        &'a mut self,
        input: &'a mut [u8],
        role: Role,
        limits: DecodeLimits,
    ) -> Result<Decoded<'a>, ProtocolError> {
        if self.partial.is_some() {
            self.release_delivered();
        }
        if self.partial.is_none() {
            if input.is_empty() {
                return Ok(Decoded { consumed: 0, message: None });
            }
            if let Some((header, end)) = whole(input, role, limits)? {
                let message = Message::unmask(&header, &mut input[header.len..end])?;
                return Ok(Decoded { consumed: end, message: Some(message) });
            }
        }
        self.decode_partial(input, role, limits)
    }

    /// The messages at the beginning of `input`, if nothing is incomplete. What stops them, bytes of a
    /// message that is not there as a whole or a control frame, is for [`Decoder::decode`].
    #[inline]
    pub fn messages<'a>(&self, input: &'a mut [u8], role: Role, limits: DecodeLimits) -> Messages<'a> {
        let rest = if self.is_idle() { input } else { &mut [] };
        Messages { rest, consumed: 0, error: None, role, limits }
    }

    /// Frees the message that the last call handed out from the decoder's own memory.
    fn release_delivered(&mut self) {
        if let Some(partial) = &mut self.partial {
            partial.release_delivered();
            if partial.is_idle() {
                self.partial = None;
            }
        }
    }

    /// The general case: something is, or remains, incomplete.
    #[cold]
    fn decode_partial<'a>(
        &'a mut self,
        input: &'a mut [u8],
        role: Role,
        limits: DecodeLimits,
    ) -> Result<Decoded<'a>, ProtocolError> {
        let partial = self.partial.get_or_insert_default();
        let outcome = partial.advance(input, role, limits);
        if outcome.is_err() || partial.is_idle() {
            self.partial = None;
        }
        let step = outcome?;
        let message = match step.ready {
            Ready::Nothing => None,
            Ready::InInput(opcode, payload) => match Message::parse(opcode, &input[payload]) {
                Ok(message) => Some(message),
                Err(error) => {
                    self.partial = None;
                    return Err(error);
                }
            },
            Ready::Held => self.partial.as_deref().and_then(Partial::delivered).transpose()?,
        };
        Ok(Decoded { consumed: step.consumed, message })
    }
}

/// Messages that lie in the input as a whole, in frames of their own: nearly all there are. Unlike those of
/// [`Decoder::decode`] they live as long as the input, so that several can be looked at together.
#[derive(Debug)]
pub struct Messages<'a> {
    rest: &'a mut [u8],
    consumed: usize,
    error: Option<ProtocolError>,
    role: Role,
    limits: DecodeLimits,
}

impl Messages<'_> {
    /// How many bytes of the input are done with.
    ///
    /// # Errors
    ///
    /// What the peer did wrong after the last message; as for [`Decoder::decode`].
    pub fn end(self) -> Result<usize, ProtocolError> {
        self.error.map_or(Ok(self.consumed), Err)
    }

    #[cold]
    fn fail(&mut self, error: ProtocolError) {
        self.error = Some(error);
        self.rest = &mut [];
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    #[inline]
    fn next(&mut self) -> Option<Message<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        let whole = whole(self.rest, self.role, self.limits);
        let message = match whole {
            Ok(Some((header, end))) if !header.opcode.is_control() => {
                let (frame, rest) = std::mem::take(&mut self.rest).split_at_mut(end);
                self.rest = rest;
                self.consumed += end;
                Message::unmask(&header, &mut frame[header.len..])
            }
            Ok(_) => return None,
            Err(error) => Err(error),
        };
        message.map_err(|error| self.fail(error)).ok()
    }
}

/// The header and the end of the frame at the beginning of `input`, if that is a message by itself and all
/// there.
#[inline]
fn whole(input: &[u8], role: Role, limits: DecodeLimits) -> Result<Option<(Header, usize)>, ProtocolError> {
    let header = Header::parse(input, role)?.filter(|header| header.is_message_within(input.len()));
    let Some(header) = header else { return Ok(None) };
    if header.payload_len > limits.message_bytes as u64 && !header.opcode.is_control() {
        return Err(ProtocolError::MessageTooLong);
    }
    let end = header.len + header.payload_len as usize;
    Ok(Some((header, end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoder_at_rest_is_one_pointer() {
        assert!(size_of::<Decoder>() <= 16);
        assert_eq!(size_of::<Decoder>(), size_of::<usize>());
        assert_eq!(Decoder::new().buffered(), 0);
    }

    #[test]
    fn partial_is_small() {
        assert!(size_of::<Partial>() <= 192, "{}", size_of::<Partial>());
    }
}
