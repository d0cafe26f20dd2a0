//! The WebSocket decoder against random streams: what was encoded comes back, and on damaged streams the
//! decoder agrees with a plain reference, however the stream is cut.
//!
//! The reference reads the whole stream at once and knows nothing of partial frames. Where a text has
//! already gone wrong it looks at prefixes, because failing fast is part of the behaviour.

use bytes::BytesMut;
use fanfare_core::ws::{
    CloseFrame, DecodeLimits, Decoder, Fin, Message, OpCode, ProtocolError, Role, apply_mask_plain,
    is_sendable_close_code, put_header,
};
use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_assert_eq, prop_oneof, proptest};
use proptest::sample::Index;

const LIMITS: DecodeLimits = DecodeLimits { message_bytes: 600, fragments: 6 };

/// An owned message.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Owned {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

type Outcome = (Vec<Owned>, Option<ProtocolError>);

impl From<Message<'_>> for Owned {
    fn from(message: Message<'_>) -> Self {
        match message {
            Message::Text(text) => Self::Text(text.into()),
            Message::Binary(bytes) => Self::Binary(bytes.into()),
            Message::Ping(bytes) => Self::Ping(bytes.into()),
            Message::Pong(bytes) => Self::Pong(bytes.into()),
            Message::Close(None) => Self::Close(None),
            Message::Close(Some(CloseFrame { code, reason })) => Self::Close(Some((code, reason.into()))),
        }
    }
}

impl Owned {
    fn opcode(&self) -> OpCode {
        match self {
            Self::Text(_) => OpCode::Text,
            Self::Binary(_) => OpCode::Binary,
            Self::Ping(_) => OpCode::Ping,
            Self::Pong(_) => OpCode::Pong,
            Self::Close(_) => OpCode::Close,
        }
    }

    fn payload(&self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.clone().into_bytes(),
            Self::Binary(bytes) | Self::Ping(bytes) | Self::Pong(bytes) => bytes.clone(),
            Self::Close(None) => Vec::new(),
            Self::Close(Some((code, reason))) => [&code.to_be_bytes(), reason.as_bytes()].concat(),
        }
    }
}

/// A message, where it is cut into fragments, and a control frame after each fragment but the last.
#[derive(Debug, Clone)]
struct Sent {
    message: Owned,
    cuts: Vec<(Index, Option<Owned>)>,
}

fn control() -> impl Strategy<Value = Owned> {
    let code = prop_oneof![1000..=1003_u16, 1007..=1014_u16, 3000..=4999_u16];
    prop_oneof![
        4 => vec(any::<u8>(), 0..=125).prop_map(Owned::Ping),
        2 => vec(any::<u8>(), 0..=125).prop_map(Owned::Pong),
        1 => (code, "\\PC{0,30}").prop_map(|close| Owned::Close(Some(close))),
        1 => Just(Owned::Close(None)),
    ]
}

fn sent() -> impl Strategy<Value = Sent> {
    let data =
        prop_oneof!["\\PC{0,140}".prop_map(Owned::Text), vec(any::<u8>(), 0..=600).prop_map(Owned::Binary),];
    let cuts = vec((any::<Index>(), proptest::option::of(control())), 0..=5);
    prop_oneof![
        1 => control().prop_map(|message| Sent { message, cuts: Vec::new() }),
        3 => (data, cuts).prop_map(|(message, cuts)| Sent { message, cuts }),
    ]
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Server), Just(Role::Client)]
}

fn put(out: &mut BytesMut, opcode: OpCode, fin: bool, payload: &[u8], receiver: Role) {
    let mask = (receiver == Role::Server).then(|| (out.len() as u32).wrapping_mul(0x9E37_79B9).to_be_bytes());
    let fin = if fin { Fin::Last } else { Fin::More };
    put_header(out, opcode, fin, payload.len(), mask);
    let start = out.len();
    out.extend_from_slice(payload);
    apply_mask_plain(&mut out[start..], mask.unwrap_or_default(), 0);
}

/// Writes a message in its fragments; adds the messages in the order they are to come out.
fn encode(sent: &Sent, receiver: Role, out: &mut BytesMut, expected: &mut Vec<Owned>) {
    let payload = sent.message.payload();
    let mut ends: Vec<usize> = sent.cuts.iter().map(|(cut, _)| cut.index(payload.len() + 1)).collect();
    ends.sort_unstable();
    let (mut opcode, mut start) = (sent.message.opcode(), 0);
    for (end, (_, control)) in ends.into_iter().zip(&sent.cuts) {
        put(out, opcode, false, &payload[start..end], receiver);
        (opcode, start) = (OpCode::Continuation, end);
        if let Some(control) = control {
            put(out, control.opcode(), true, &control.payload(), receiver);
            expected.push(control.clone());
        }
    }
    put(out, opcode, true, &payload[start..], receiver);
    expected.push(sent.message.clone());
}

/// The decoder under test, fed in chunks whose lengths cycle through `lengths`; what can be taken together
/// is, or not.
fn decode(stream: &[u8], lengths: &[usize], role: Role, together: bool) -> Outcome {
    let mut decoder = Decoder::new();
    let mut messages = Vec::new();
    let mut lengths = lengths.iter().cycle();
    let mut rest = stream;
    while !rest.is_empty() {
        let len = lengths.next().map_or(rest.len(), |len| rest.len().min(*len));
        let mut chunk = rest[..len].to_vec();
        rest = &rest[len..];
        let mut at = 0;
        loop {
            if together {
                let mut whole = decoder.messages(&mut chunk[at..], role, LIMITS);
                messages.extend(whole.by_ref().map(Owned::from));
                match whole.end() {
                    Err(error) => return (messages, Some(error)),
                    Ok(consumed) => at += consumed,
                }
            }
            match decoder.decode(&mut chunk[at..], role, LIMITS) {
                Err(error) => return (messages, Some(error)),
                Ok(decoded) => {
                    at += decoded.consumed;
                    let Some(message) = decoded.message else { break };
                    messages.push(message.into());
                }
            }
        }
        assert_eq!(at, len);
    }
    (messages, None)
}

/// The reference: one pass over the whole stream, one frame after the other.
fn reference(stream: &[u8], role: Role) -> Outcome {
    let mut messages = Vec::new();
    let mut open: Option<(bool, Vec<u8>, usize)> = None;
    let mut rest = stream;
    loop {
        match reference_frame(rest, role, &mut open, &mut messages) {
            Ok(Some(consumed)) => rest = &rest[consumed..],
            Ok(None) => return (messages, None),
            Err(error) => return (messages, Some(error)),
        }
    }
}

/// One frame, in the order of RFC 6455, 5.2; `None` at the end of the stream.
fn reference_frame(
    bytes: &[u8],
    role: Role,
    open: &mut Option<(bool, Vec<u8>, usize)>,
    messages: &mut Vec<Owned>,
) -> Result<Option<usize>, ProtocolError> {
    let [first, second, ..] = *bytes else { return Ok(None) };
    let (fin, opcode, masked) = (first & 0x80 != 0, first & 0xF, second & 0x80 != 0);
    let length_len = [0, 2, 8][usize::from(second & 0x7F).saturating_sub(125)];
    let header_len = 2 + length_len + if masked { 4 } else { 0 };
    if bytes.len() < header_len {
        return Ok(None);
    }
    let big = bytes[2..2 + length_len].iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    let len = if length_len == 0 { u64::from(second & 0x7F) } else { big };
    let error = match opcode {
        3..=7 | 11.. => Some(ProtocolError::ReservedOpcode),
        _ if first & 0x70 != 0 => Some(ProtocolError::ReservedBits),
        _ if role == Role::Server && !masked => Some(ProtocolError::UnmaskedFrame),
        _ if role == Role::Client && masked => Some(ProtocolError::MaskedFrame),
        _ if len > i64::MAX as u64 => Some(ProtocolError::LengthHighBit),
        8.. if !fin => Some(ProtocolError::FragmentedControl),
        8.. if len > 125 => Some(ProtocolError::OversizedControl),
        _ if length_len == 2 && len < 126 => Some(ProtocolError::NonMinimalLength),
        _ if length_len == 8 && len < 65_536 => Some(ProtocolError::NonMinimalLength),
        0 if open.is_none() => Some(ProtocolError::UnexpectedContinuation),
        1 | 2 if open.is_some() => Some(ProtocolError::ExpectedContinuation),
        _ => None,
    };
    if let Some(error) = error {
        return Err(error);
    }
    let key = if masked { bytes[..header_len].last_chunk::<4>().copied() } else { None };
    let available = (bytes.len() - header_len) as u64;
    let mut payload = bytes[header_len..header_len + available.min(len) as usize].to_vec();
    apply_mask_plain(&mut payload, key.unwrap_or_default(), 0);
    let complete = available >= len;

    if opcode >= 8 {
        if complete {
            messages.push(reference_control(opcode, payload)?);
        }
        return Ok(complete.then_some(header_len + len as usize));
    }
    let single = open.is_none() && fin;
    let (is_text, body, fragments) = open.get_or_insert_with(|| (opcode == 1, Vec::new(), 0));
    *fragments += 1;
    if body.len() as u64 + len > LIMITS.message_bytes as u64 {
        return Err(ProtocolError::MessageTooLong);
    }
    if *fragments > LIMITS.fragments && !single {
        return Err(ProtocolError::TooManyFragments);
    }
    body.extend(payload);
    let may_continue = !(complete && fin);
    match std::str::from_utf8(body) {
        Err(error) if *is_text && !(may_continue && error.error_len().is_none()) => {
            return Err(ProtocolError::InvalidUtf8);
        }
        _ => {}
    }
    if complete && fin {
        let message = match (*is_text, std::mem::take(body)) {
            (true, body) => Owned::Text(String::from_utf8_lossy(&body).into_owned()),
            (false, body) => Owned::Binary(body),
        };
        messages.push(message);
        *open = None;
    }
    Ok(complete.then_some(header_len + len as usize))
}

fn reference_control(opcode: u8, payload: Vec<u8>) -> Result<Owned, ProtocolError> {
    match (opcode, payload.as_slice()) {
        (9, _) => Ok(Owned::Ping(payload)),
        (10, _) => Ok(Owned::Pong(payload)),
        (_, []) => Ok(Owned::Close(None)),
        (_, [_]) => Err(ProtocolError::TruncatedCloseCode),
        (_, [high, low, reason @ ..]) => {
            let code = u16::from_be_bytes([*high, *low]);
            if !is_sendable_close_code(code) {
                return Err(ProtocolError::InvalidCloseCode);
            }
            let reason = String::from_utf8(reason.to_vec()).map_err(|_| ProtocolError::InvalidUtf8)?;
            Ok(Owned::Close(Some((code, reason))))
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn messages_survive_fragmentation_interleaving_and_chunking(
        sent in vec(sent(), 1..6),
        role in role(),
        lengths in vec(1..400_usize, 1..5),
    ) {
        let (mut stream, mut expected) = (BytesMut::new(), Vec::new());
        for message in &sent {
            encode(message, role, &mut stream, &mut expected);
        }
        let expected = (expected, None);
        prop_assert_eq!(&reference(&stream, role), &expected);
        for lengths in [&[stream.len()], &lengths[..], &[1]] {
            for together in [false, true] {
                prop_assert_eq!(&decode(&stream, lengths, role, together), &expected);
            }
        }
    }

    #[test]
    fn damaged_streams_are_judged_as_by_the_reference(
        sent in vec(sent(), 1..6),
        role in role(),
        lengths in vec(1..400_usize, 1..5),
        damage in vec((any::<Index>(), any::<u8>()), 1..4),
        cut in proptest::option::of(any::<Index>()),
    ) {
        let mut stream = BytesMut::new();
        for message in &sent {
            encode(message, role, &mut stream, &mut Vec::new());
        }
        for (index, byte) in damage {
            let index = index.index(stream.len());
            stream[index] = byte;
        }
        stream.truncate(cut.map_or(stream.len(), |cut| cut.index(stream.len())));
        let expected = reference(&stream, role);
        for lengths in [&[stream.len()], &lengths[..], &[1]] {
            for together in [false, true] {
                prop_assert_eq!(&decode(&stream, lengths, role, together), &expected);
            }
        }
    }

    #[test]
    fn short_arbitrary_bytes_are_judged_as_by_the_reference(
        heads in vec((0..16_u8, any::<bool>(), 0..8_u8, vec(any::<u8>(), 0..8)), 1..6),
        role in role(),
        lengths in vec(1..8_usize, 1..5),
    ) {
        let mut stream = Vec::new();
        for (opcode, fin, len, payload) in heads {
            let (fin, mask) = (u8::from(fin) << 7, u8::from(role == Role::Server) << 7);
            stream.extend([fin | opcode, mask | len]);
            stream.extend(payload);
        }
        let expected = reference(&stream, role);
        for lengths in [&[stream.len()], &lengths[..], &[1]] {
            for together in [false, true] {
                prop_assert_eq!(&decode(&stream, lengths, role, together), &expected);
            }
        }
    }
}
