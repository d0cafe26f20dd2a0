//! What a decoder keeps while a frame or a message is incomplete.
//!
//! ```text
//!            ┌────────────── header incomplete: its bytes are kept
//!            ▼
//!   ──▶ [ header ] ──▶ admitted ──┬─▶ a message wholly in the input ──▶ yielded from the input
//!            ▲                    ├─▶ data:    payload ──▶ assembly ──┐
//!            │                    └─▶ control: payload ──▶ control  ──┤
//!            └──── fragment done ◀────────────────────────────────────┴─▶ yielded from here, freed at the
//!                                                                         next call
//! ```
//!
//! Relations: `frame` is some only between a frame's header and its last payload byte, and then `header_len`
//! is 0. A control frame may be open while `assembly` is, because it may stand between two fragments.

use std::ops::Range;

use super::ProtocolError;
use super::decoder::{DecodeLimits, Message, Role};
use super::encoder::MAX_HEADER_LEN;
use super::header::{Header, OpCode};
use super::mask::apply_mask;

/// The first allocation of an assembly, so that a message in tiny pieces does not grow byte by byte.
const MIN_CAPACITY: usize = 64;

/// What one call of [`Partial::advance`] came to.
pub(super) struct Step {
    pub(super) consumed: usize,
    pub(super) ready: Ready,
}

/// Where the next message lies, if there is one.
pub(super) enum Ready {
    /// More bytes are needed.
    Nothing,
    /// In the input, unmasked.
    InInput(OpCode, Range<usize>),
    /// In the `Partial`, see [`Partial::delivered`].
    Held,
}

/// See the module documentation.
#[derive(Debug, Default)]
pub(super) struct Partial {
    header: [u8; MAX_HEADER_LEN],
    /// How many bytes of `header` have arrived; 0 between frames.
    header_len: u8,
    frame: Option<Frame>,
    control: Option<Control>,
    assembly: Option<Assembly>,
    /// What the last call handed out, to be freed at the next one.
    delivered: Option<Delivered>,
}

/// A message that had to be held to be put together.
#[derive(Debug)]
enum Delivered {
    Control(Control),
    Body(Body),
}

/// A frame whose payload is arriving.
#[derive(Debug)]
struct Frame {
    opcode: OpCode,
    fin: bool,
    /// The key, rotated so that its first byte belongs to the next payload byte.
    mask: [u8; 4],
    /// Payload bytes yet to come.
    remaining: usize,
}

/// A control frame cut by the end of a read.
#[derive(Debug)]
struct Control {
    opcode: OpCode,
    /// At most 125 bytes.
    payload: Vec<u8>,
}

/// A data message put together from several frames or several reads.
#[derive(Debug)]
struct Assembly {
    /// Frames begun, at least 1.
    fragments: usize,
    body: Body,
}

#[derive(Debug)]
enum Body {
    /// `carry` is the beginning of a character whose end has not arrived.
    Text {
        text: String,
        carry: Carry,
    },
    Binary(Vec<u8>),
}

/// At most three bytes that are a proper prefix of a character (four for a moment, while it is completed).
#[derive(Debug, Default)]
struct Carry {
    bytes: [u8; 4],
    len: u8,
}

impl Partial {
    /// Consumes input up to the end of the next message, or all of it.
    pub(super) fn advance(
        &mut self,
        input: &mut [u8],
        role: Role,
        limits: DecodeLimits,
    ) -> Result<Step, ProtocolError> {
        let mut at = 0;
        loop {
            let mut frame = match self.frame.take() {
                Some(frame) => frame,
                None => {
                    let Some((header, taken)) = self.take_header(&input[at..], role)? else {
                        return Ok(Step { consumed: input.len(), ready: Ready::Nothing });
                    };
                    at += taken;
                    self.admit(&header, limits)?;
                    let payload_len = header.payload_len as usize;
                    if header.is_message() && payload_len <= input.len() - at {
                        let payload = at..at + payload_len;
                        apply_mask(&mut input[payload.clone()], header.mask, 0);
                        return Ok(Step {
                            consumed: payload.end,
                            ready: Ready::InInput(header.opcode, payload),
                        });
                    }
                    self.begin_frame(&header)
                }
            };
            let payload = frame.take_payload(&mut input[at..]);
            self.keep(&frame, payload, limits)?;
            at += payload.len();
            if frame.remaining > 0 {
                self.frame = Some(frame);
                return Ok(Step { consumed: at, ready: Ready::Nothing });
            }
            if self.end_frame(&frame)? {
                return Ok(Step { consumed: at, ready: Ready::Held });
            }
        }
    }

    /// The message that [`Ready::Held`] announced.
    pub(super) fn delivered(&self) -> Option<Result<Message<'_>, ProtocolError>> {
        Some(match self.delivered.as_ref()? {
            Delivered::Control(control) => Message::parse(control.opcode, &control.payload),
            Delivered::Body(Body::Text { text, .. }) => Ok(Message::Text(text)),
            Delivered::Body(Body::Binary(bytes)) => Ok(Message::Binary(bytes)),
        })
    }

    /// Frees what was handed out by the call before.
    pub(super) fn release_delivered(&mut self) {
        self.delivered = None;
    }

    /// Whether nothing is incomplete and nothing handed out.
    pub(super) const fn is_idle(&self) -> bool {
        self.header_len == 0
            && self.frame.is_none()
            && self.control.is_none()
            && self.assembly.is_none()
            && self.delivered.is_none()
    }

    /// Heap memory held beyond the struct itself, in bytes.
    pub(super) fn buffered(&self) -> usize {
        let delivered = match &self.delivered {
            Some(Delivered::Control(control)) => control.payload.capacity(),
            Some(Delivered::Body(body)) => body.capacity(),
            None => 0,
        };
        let control = self.control.as_ref().map_or(0, |control| control.payload.capacity());
        delivered + control + self.assembly.as_ref().map_or(0, |assembly| assembly.body.capacity())
    }

    /// Reads the next frame's header, part of which may be kept from before. Says how much of `input`
    /// belonged to it; if it is still incomplete, all of `input` has been kept.
    fn take_header(&mut self, input: &[u8], role: Role) -> Result<Option<(Header, usize)>, ProtocolError> {
        let kept = usize::from(self.header_len);
        if kept == 0
            && let Some(header) = Header::parse(input, role)?
        {
            return Ok(Some((header, header.len)));
        }
        // An incomplete header is shorter than the longest one, so it always fits.
        let taken = input.len().min(MAX_HEADER_LEN - kept);
        self.header[kept..kept + taken].copy_from_slice(&input[..taken]);
        let parsed = Header::parse(&self.header[..kept + taken], role)?;
        self.header_len = if parsed.is_some() { 0 } else { (kept + taken) as u8 };
        Ok(parsed.map(|header| (header, header.len - kept)))
    }

    /// Checks a frame against the message it would join and against the limits.
    fn admit(&self, header: &Header, limits: DecodeLimits) -> Result<(), ProtocolError> {
        if header.opcode.is_control() {
            return Ok(());
        }
        let (received, fragments) = match (&self.assembly, header.opcode) {
            (None, OpCode::Continuation) => return Err(ProtocolError::UnexpectedContinuation),
            (Some(assembly), OpCode::Continuation) => (assembly.body.len(), assembly.fragments),
            (Some(_), _) => return Err(ProtocolError::ExpectedContinuation),
            (None, _) => (0, 0),
        };
        let left = limits.message_bytes.saturating_sub(received);
        if header.payload_len > left as u64 {
            return Err(ProtocolError::MessageTooLong);
        }
        if fragments >= limits.fragments && !header.is_message() {
            return Err(ProtocolError::TooManyFragments);
        }
        Ok(())
    }

    /// Makes room (in name only: nothing is allocated for what a header claims) for an admitted frame.
    fn begin_frame(&mut self, header: &Header) -> Frame {
        match (header.opcode, &mut self.assembly) {
            (OpCode::Continuation, Some(assembly)) => assembly.fragments += 1,
            (opcode @ (OpCode::Close | OpCode::Ping | OpCode::Pong), _) => {
                self.control = Some(Control { opcode, payload: Vec::new() });
            }
            (opcode, _) => self.assembly = Some(Assembly { fragments: 1, body: Body::new(opcode) }),
        }
        Frame {
            opcode: header.opcode,
            fin: header.fin,
            mask: header.mask,
            remaining: header.payload_len as usize,
        }
    }

    /// Keeps unmasked payload of `frame`.
    fn keep(&mut self, frame: &Frame, payload: &[u8], limits: DecodeLimits) -> Result<(), ProtocolError> {
        if frame.opcode.is_control() {
            if let Some(control) = &mut self.control {
                control.payload.extend_from_slice(payload);
            }
            return Ok(());
        }
        let Some(assembly) = &mut self.assembly else { return Ok(()) };
        let incoming = assembly.body.len() + payload.len();
        let ceiling = if frame.fin { incoming + frame.remaining } else { limits.message_bytes };
        assembly.body.push(payload, ceiling)
    }

    /// A frame's payload is complete; says whether that makes a message.
    fn end_frame(&mut self, frame: &Frame) -> Result<bool, ProtocolError> {
        if frame.opcode.is_control()
            && let Some(control) = self.control.take()
        {
            // A close frame may be refused. It is better refused here, where the error drops everything.
            Message::parse(control.opcode, &control.payload)?;
            self.delivered = Some(Delivered::Control(control));
        } else if frame.fin
            && let Some(assembly) = self.assembly.take()
        {
            assembly.body.check_complete()?;
            self.delivered = Some(Delivered::Body(assembly.body));
        }
        Ok(self.delivered.is_some())
    }
}

impl Frame {
    /// Unmasks as much of `input` as belongs to this frame.
    fn take_payload<'a>(&mut self, input: &'a mut [u8]) -> &'a [u8] {
        let taken = input.len().min(self.remaining);
        let payload = &mut input[..taken];
        apply_mask(payload, self.mask, 0);
        self.mask.rotate_left(taken % 4);
        self.remaining -= taken;
        payload
    }
}

impl Body {
    fn new(opcode: OpCode) -> Self {
        if opcode == OpCode::Text {
            Self::Text { text: String::new(), carry: Carry::default() }
        } else {
            Self::Binary(Vec::new())
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Text { text, carry } => text.len() + usize::from(carry.len),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    fn capacity(&self) -> usize {
        match self {
            Self::Text { text, .. } => text.capacity(),
            Self::Binary(bytes) => bytes.capacity(),
        }
    }

    /// Appends payload; text is validated on the way. The body never becomes longer than `ceiling`.
    fn push(&mut self, payload: &[u8], ceiling: usize) -> Result<(), ProtocolError> {
        match self {
            Self::Binary(bytes) => {
                bytes.reserve_exact(growth(bytes.len(), bytes.capacity(), payload.len(), ceiling));
                bytes.extend_from_slice(payload);
                Ok(())
            }
            Self::Text { text, carry } => {
                let rest = carry.complete(payload, text)?;
                let (whole, tail) = rest.split_at(rest.len() - incomplete_tail(rest));
                let whole = std::str::from_utf8(whole).map_err(|_| ProtocolError::InvalidUtf8)?;
                text.reserve_exact(growth(text.len(), text.capacity(), whole.len(), ceiling));
                text.push_str(whole);
                carry.extend(tail)
            }
        }
    }

    /// Whether the message may end here: not within a character.
    fn check_complete(&self) -> Result<(), ProtocolError> {
        match self {
            Self::Text { carry, .. } if carry.len > 0 => Err(ProtocolError::InvalidUtf8),
            _ => Ok(()),
        }
    }
}

impl Carry {
    /// Moves bytes from the front of `payload` until the character begun is complete, and then to `text`.
    /// Returns the payload after it.
    fn complete<'a>(&mut self, mut payload: &'a [u8], text: &mut String) -> Result<&'a [u8], ProtocolError> {
        while self.len > 0
            && let [byte, rest @ ..] = payload
        {
            self.extend(&[*byte])?;
            payload = rest;
            if let Ok(character) = std::str::from_utf8(self.as_bytes()) {
                text.push_str(character);
                self.len = 0;
            }
        }
        Ok(payload)
    }

    /// Appends bytes, if what is then held is a character or still may become one.
    fn extend(&mut self, bytes: &[u8]) -> Result<(), ProtocolError> {
        for byte in bytes {
            // A character has at most four bytes, and a whole one never stays here: there is room.
            self.bytes[usize::from(self.len)] = *byte;
            self.len += 1;
        }
        match std::str::from_utf8(self.as_bytes()) {
            Err(error) if error.error_len().is_some() => Err(ProtocolError::InvalidUtf8),
            _ => Ok(()),
        }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// How many bytes at the end of `bytes` look like the beginning of a longer character: 0 to 3.
///
/// Splitting them off first lets the rest be validated and taken over in one pass.
fn incomplete_tail(bytes: &[u8]) -> usize {
    for (index, byte) in bytes.iter().rev().take(3).enumerate() {
        let wanted = match byte {
            0x80..=0xBF => continue,
            0xC0..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xFF => 4,
            _ => 1,
        };
        let present = index + 1;
        return if wanted > present { present } else { 0 };
    }
    0
}

/// What to pass to `reserve_exact` so that `additional` bytes fit: capacity doubles, which keeps appending
/// linear, but never beyond `ceiling`, the longest the buffer can become.
fn growth(len: usize, capacity: usize, additional: usize, ceiling: usize) -> usize {
    let needed = len + additional;
    if needed <= capacity {
        return 0;
    }
    let doubled = capacity.saturating_mul(2).max(MIN_CAPACITY).min(ceiling);
    needed.max(doubled) - len
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tail_is_split_off_only_if_its_character_is_incomplete() {
        for (bytes, expected) in [
            ("".as_bytes(), 0),
            (b"abc", 0),
            ("aä".as_bytes(), 0),
            (b"a\xc3", 1),
            (b"\xe2\x82", 2),
            ("a€".as_bytes(), 0),
            (b"\xf0\x9f\x98", 3),
            ("\u{1f600}".as_bytes(), 0),
            (b"\x80\x80\x80\x80", 0),
        ] {
            assert_eq!(incomplete_tail(bytes), expected, "{bytes:x?}");
        }
    }

    /// The single source of truth is `from_utf8`: a prefix is refused exactly when it says so.
    #[test]
    fn text_in_two_pieces_fails_exactly_when_the_prefix_is_invalid() {
        const BYTES: [u8; 14] =
            [b'a', 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC2, 0xE0, 0xED, 0xF0, 0xF4, 0xFF];
        for number in 0..14_usize.pow(4) {
            let bytes: [u8; 4] = std::array::from_fn(|place| BYTES[number / 14_usize.pow(place as u32) % 14]);
            let is_prefix =
                std::str::from_utf8(&bytes).map_or_else(|error| error.error_len().is_none(), |_| true);
            for cut in 0..=4 {
                let mut body = Body::new(OpCode::Text);
                let pushed = body.push(&bytes[..cut], 4).and_then(|()| body.push(&bytes[cut..], 4));
                assert_eq!(pushed.is_ok(), is_prefix, "{bytes:x?} cut at {cut}");
                if is_prefix {
                    let complete = std::str::from_utf8(&bytes).is_ok();
                    assert_eq!(body.check_complete().is_ok(), complete, "{bytes:x?} cut at {cut}");
                    assert_eq!(body.len(), 4);
                }
            }
        }
    }

    #[test]
    fn capacity_doubles_up_to_the_ceiling_and_always_fits() {
        assert_eq!(growth(0, 0, 1, 1 << 20), MIN_CAPACITY);
        assert_eq!(growth(0, 0, 1, 10), 10);
        assert_eq!(growth(64, 64, 1, 1 << 20), 64);
        assert_eq!(growth(64, 64, 1, 100), 36);
        assert_eq!(growth(64, 64, 1000, 1 << 20), 1000);
        assert_eq!(growth(10, 64, 54, 64), 0);
    }
}
