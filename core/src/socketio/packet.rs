//! The head of a packet (the protocol, "Packet encoding"):
//! `<type>[<attachments>-][<namespace>,][<number of the acknowledgement>][payload]`.

use std::fmt;

use super::{Limits, ProtocolError};

/// The namespace that has no name on the wire.
pub const MAIN_NAMESPACE: &str = "/";

/// The type of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PacketType {
    /// `0`: asks for a namespace, or grants it.
    Connect,
    /// `1`: leaves a namespace.
    Disconnect,
    /// `2`, or `5` with attachments.
    Event,
    /// `3`, or `6` with attachments: answers an event.
    Ack,
    /// `4`: refuses a namespace.
    ConnectError,
}

/// The number by which an acknowledgement names its event: at most 2^53 - 1, as it is a number in JavaScript.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AckId(u64);

impl AckId {
    /// The largest number.
    pub const MAX: Self = Self((1 << 53) - 1);

    /// The number, unless it is too large.
    pub const fn new(number: u64) -> Option<Self> {
        if number <= Self::MAX.0 { Some(Self(number)) } else { None }
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for AckId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A packet without its attachments, borrowed from the text that carried it. Its payload is not looked at
/// yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// What the packet is.
    pub kind: PacketType,
    /// How many attachments follow; 0 unless the packet is of a binary type.
    pub attachments: usize,
    /// The namespace, from its slash on.
    pub namespace: &'a str,
    /// The number of the acknowledgement.
    pub ack: Option<AckId>,
    /// The payload as it was written; empty if there is none.
    pub payload: &'a str,
}

impl<'a> Packet<'a> {
    /// Reads the head of the packet that is the whole of `text`. Nothing is copied.
    ///
    /// # Errors
    ///
    /// [`ProtocolError::UnknownType`], [`ProtocolError::AttachmentCount`],
    /// [`ProtocolError::TooManyAttachments`], [`ProtocolError::NamespaceTooLong`] or
    /// [`ProtocolError::AckId`].
    #[inline]
    pub fn decode(text: &'a str, limits: Limits) -> Result<Self, ProtocolError> {
        let (kind, is_binary) = match text.as_bytes().first() {
            Some(b'2') => (PacketType::Event, false),
            Some(b'0') => (PacketType::Connect, false),
            Some(b'1') => (PacketType::Disconnect, false),
            Some(b'3') => (PacketType::Ack, false),
            Some(b'4') => (PacketType::ConnectError, false),
            Some(b'5') => (PacketType::Event, true),
            Some(b'6') => (PacketType::Ack, true),
            _ => return Err(ProtocolError::UnknownType),
        };
        let rest = &text[1..];
        let (attachments, rest) = if is_binary { take_attachments(rest, limits)? } else { (0, rest) };
        let (namespace, rest) = take_namespace(rest, limits)?;
        let (ack, payload) = take_ack(rest)?;
        Ok(Self { kind, attachments, namespace, ack, payload })
    }
}

fn take_attachments(text: &str, limits: Limits) -> Result<(usize, &str), ProtocolError> {
    let (digits, rest) = text.split_at(digits_len(text));
    let rest = rest.strip_prefix('-').filter(|_| !digits.is_empty()).ok_or(ProtocolError::AttachmentCount)?;
    match digits.parse::<usize>() {
        Ok(0) => Err(ProtocolError::AttachmentCount),
        Ok(count) if count <= limits.attachments => Ok((count, rest)),
        _ => Err(ProtocolError::TooManyAttachments),
    }
}

#[inline]
fn take_namespace(text: &str, limits: Limits) -> Result<(&str, &str), ProtocolError> {
    if !text.starts_with('/') {
        return Ok((MAIN_NAMESPACE, text));
    }
    let (namespace, rest) = text.split_once(',').unwrap_or((text, ""));
    if namespace.len() > limits.namespace_bytes {
        return Err(ProtocolError::NamespaceTooLong);
    }
    Ok((namespace, rest))
}

#[inline]
fn take_ack(text: &str) -> Result<(Option<AckId>, &str), ProtocolError> {
    let (digits, payload) = text.split_at(digits_len(text));
    // What is neither a digit nor the beginning of a payload was meant as a number.
    if !matches!(payload.as_bytes().first(), None | Some(b'[' | b'{' | b'"' | b' ' | b'\t' | b'\n' | b'\r')) {
        return Err(ProtocolError::AckId);
    }
    if digits.is_empty() {
        return Ok((None, payload));
    }
    let id = digits.parse().ok().and_then(AckId::new).ok_or(ProtocolError::AckId)?;
    Ok((Some(id), payload))
}

#[inline]
fn digits_len(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { attachments: 10, attachment_bytes: 100, namespaces: 2, namespace_bytes: 8, acks: 2 };

    type Parts<'a> = (PacketType, usize, &'a str, Option<u64>, &'a str);

    fn decode(text: &str) -> Result<Parts<'_>, ProtocolError> {
        let packet = Packet::decode(text, LIMITS)?;
        Ok((packet.kind, packet.attachments, packet.namespace, packet.ack.map(AckId::get), packet.payload))
    }

    #[test]
    fn examples_of_the_protocol_are_read() {
        use PacketType::{Ack, Connect, ConnectError, Disconnect, Event};
        for (text, parts) in [
            ("0", (Connect, 0, "/", None, "")),
            ("0/admin,{\"sid\":\"x\"}", (Connect, 0, "/admin", None, "{\"sid\":\"x\"}")),
            ("0/admin", (Connect, 0, "/admin", None, "")),
            ("4{\"message\":\"no\"}", (ConnectError, 0, "/", None, "{\"message\":\"no\"}")),
            ("2[\"foo\"]", (Event, 0, "/", None, "[\"foo\"]")),
            ("2/admin,[\"bar\"]", (Event, 0, "/admin", None, "[\"bar\"]")),
            ("51-[\"baz\",0]", (Event, 1, "/", None, "[\"baz\",0]")),
            ("510-/admin,[\"baz\"]", (Event, 10, "/admin", None, "[\"baz\"]")),
            ("212[\"foo\"]", (Event, 0, "/", Some(12), "[\"foo\"]")),
            ("3/admin,13[\"bar\"]", (Ack, 0, "/admin", Some(13), "[\"bar\"]")),
            ("61-15[\"bar\",0]", (Ack, 1, "/", Some(15), "[\"bar\",0]")),
            ("1", (Disconnect, 0, "/", None, "")),
            ("1/admin,", (Disconnect, 0, "/admin", None, "")),
            ("2 [\"foo\"]", (Event, 0, "/", None, " [\"foo\"]")),
            ("29007199254740991[]", (Event, 0, "/", Some((1 << 53) - 1), "[]")),
        ] {
            assert_eq!(decode(text), Ok(parts), "{text}");
        }
    }

    #[test]
    fn malformed_heads_are_refused() {
        for (text, error) in [
            ("", ProtocolError::UnknownType),
            ("abc", ProtocolError::UnknownType),
            ("7", ProtocolError::UnknownType),
            ("ä", ProtocolError::UnknownType),
            ("-1[]", ProtocolError::UnknownType),
            ("5[\"a\"]", ProtocolError::AttachmentCount),
            ("5-[\"a\"]", ProtocolError::AttachmentCount),
            ("50-[\"a\"]", ProtocolError::AttachmentCount),
            ("51[\"a\"]", ProtocolError::AttachmentCount),
            ("51.5-[\"a\"]", ProtocolError::AttachmentCount),
            ("5+1-[\"a\"]", ProtocolError::AttachmentCount),
            ("5", ProtocolError::AttachmentCount),
            ("511-[\"a\"]", ProtocolError::TooManyAttachments),
            ("599999999999999999999999-[\"a\"]", ProtocolError::TooManyAttachments),
            ("2/12345678,[\"a\"]", ProtocolError::NamespaceTooLong),
            ("2abc[\"a\"]", ProtocolError::AckId),
            ("21a[\"a\"]", ProtocolError::AckId),
            ("2-1[\"a\"]", ProtocolError::AckId),
            ("29007199254740992[\"a\"]", ProtocolError::AckId),
            ("299999999999999999999999[\"a\"]", ProtocolError::AckId),
            ("2/a,b[\"a\"]", ProtocolError::AckId),
        ] {
            assert_eq!(decode(text), Err(error), "{text}");
        }
    }
}
