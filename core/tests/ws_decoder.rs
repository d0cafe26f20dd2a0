//! Behaviour of the WebSocket decoder, frame by frame: what is yielded, what is refused, what is kept.

use bytes::BytesMut;
use fanfare_core::ws::{
    CloseFrame, DecodeLimits, Decoder, Fin, Message, OpCode, ProtocolError, Role, apply_mask, put_close,
    put_header, put_masked_frame,
};

const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
const LIMITS: DecodeLimits = DecodeLimits { message_bytes: 16 << 20, fragments: 65_536 };

/// A masked frame with any first byte.
fn frame(opcode: OpCode, fin: bool, payload: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    put_masked_frame(&mut out, OpCode::Binary, payload, KEY);
    out[0] = opcode as u8 | if fin { 0x80 } else { 0 };
    out.to_vec()
}

fn text(message: &Option<Message<'_>>) -> Option<String> {
    match message {
        Some(Message::Text(text)) => Some((*text).to_owned()),
        _ => None,
    }
}

/// Feeds `stream` in chunks of `step` bytes; yields every message in debug form, or the error.
fn run(stream: &[u8], step: usize, role: Role, limits: DecodeLimits) -> Result<Vec<String>, ProtocolError> {
    let mut decoder = Decoder::new();
    let mut messages = Vec::new();
    for chunk in stream.chunks(step) {
        let mut chunk = chunk.to_vec();
        let mut at = 0;
        loop {
            let decoded = decoder.decode(&mut chunk[at..], role, limits)?;
            at += decoded.consumed;
            match decoded.message {
                Some(message) => messages.push(format!("{message:?}")),
                None => break,
            }
        }
        assert_eq!(at, chunk.len(), "without a message everything is taken over");
    }
    assert!(decoder.is_idle(), "nothing is left incomplete");
    assert_eq!(decoder.buffered(), 0);
    Ok(messages)
}

/// Every test of a refusal goes through here: the error must not depend on the chunking.
#[track_caller]
fn assert_refused(stream: &[u8], role: Role, error: ProtocolError, close_code: u16) {
    for step in [stream.len(), 1, 2, 3, 7] {
        assert_eq!(run(stream, step, role, LIMITS), Err(error), "in chunks of {step}");
    }
    assert_eq!(error.close_code(), close_code);
    assert!(!error.reason().is_empty() && error.reason().len() <= 123 && error.reason().is_ascii());
}

#[test]
fn whole_frame_is_yielded_in_place_without_memory() {
    let mut input = frame(OpCode::Text, true, b"hello");
    let range = input.as_ptr_range();
    let mut decoder = Decoder::new();
    let decoded = decoder.decode(&mut input, Role::Server, LIMITS).expect("valid");
    assert_eq!(decoded.consumed, 11);
    let Some(Message::Text(hello)) = decoded.message else { panic!("{decoded:?}") };
    assert_eq!(hello, "hello");
    assert!(range.contains(&hello.as_ptr()));
    assert!(decoder.is_idle());
}

#[test]
fn examples_of_the_rfc_decode() {
    // RFC 6455, 5.7.
    let unmasked = [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
    assert_eq!(run(&unmasked, 7, Role::Client, LIMITS), Ok(vec!["Text(\"Hello\")".into()]));
    let masked = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(run(&masked, 11, Role::Server, LIMITS), Ok(vec!["Text(\"Hello\")".into()]));
    let fragmented = [0x01, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f];
    assert_eq!(run(&fragmented, 9, Role::Client, LIMITS), Ok(vec!["Text(\"Hello\")".into()]));
}

#[test]
fn several_messages_in_one_read_come_out_in_order_at_any_chunking() {
    let mut stream = frame(OpCode::Text, true, "grüß".as_bytes());
    stream.extend(frame(OpCode::Ping, true, b"p"));
    stream.extend(frame(OpCode::Binary, true, &[]));
    stream.extend(frame(OpCode::Binary, true, &[7; 300]));
    stream.extend(frame(OpCode::Pong, true, b""));
    let expected = run(&stream, stream.len(), Role::Server, LIMITS).expect("valid");
    assert_eq!(expected.len(), 5);
    for step in 1..stream.len() {
        assert_eq!(run(&stream, step, Role::Server, LIMITS).as_ref(), Ok(&expected), "step {step}");
    }
}

#[test]
fn control_frames_between_fragments_are_yielded_at_once() {
    let mut stream = frame(OpCode::Text, false, b"\xc3");
    stream.extend(frame(OpCode::Ping, true, b"between"));
    let mut decoder = Decoder::new();
    let decoded = decoder.decode(&mut stream, Role::Server, LIMITS).expect("valid");
    assert_eq!(decoded.message, Some(Message::Ping(b"between")));
    assert!(!decoder.is_idle());
    let mut rest = frame(OpCode::Continuation, true, b"\xa4");
    let decoded = decoder.decode(&mut rest, Role::Server, LIMITS).expect("valid");
    assert_eq!(decoded.message, Some(Message::Text("ä")));
}

#[test]
fn control_frame_split_between_fragments_keeps_both() {
    let mut stream = frame(OpCode::Binary, false, b"one ");
    stream.extend(frame(OpCode::Ping, true, b"split"));
    stream.extend(frame(OpCode::Continuation, false, b""));
    stream.extend(frame(OpCode::Pong, true, b""));
    stream.extend(frame(OpCode::Continuation, true, b"two"));
    for step in 1..=stream.len() {
        let messages = run(&stream, step, Role::Server, LIMITS).expect("valid");
        let expected = [Message::Ping(b"split"), Message::Pong(b""), Message::Binary(b"one two")]
            .map(|m| format!("{m:?}"));
        assert_eq!(messages, expected, "step {step}");
    }
}

#[test]
fn close_frames_are_yielded_with_and_without_code() {
    let mut out = BytesMut::new();
    put_close(&mut out, 4000, "done", Some(KEY));
    let expected = Message::Close(Some(CloseFrame { code: 4000, reason: "done" }));
    for step in [1, out.len()] {
        assert_eq!(run(&out, step, Role::Server, LIMITS), Ok(vec![format!("{expected:?}")]));
    }
    assert_eq!(
        run(&frame(OpCode::Close, true, b""), 3, Role::Server, LIMITS),
        Ok(vec!["Close(None)".into()])
    );
}

#[test]
fn reserved_bits_are_refused() {
    for bit in [0x40, 0x20, 0x10] {
        let mut stream = frame(OpCode::Text, true, b"x");
        stream[0] |= bit;
        assert_refused(&stream, Role::Server, ProtocolError::ReservedBits, 1002);
    }
}

#[test]
fn reserved_opcodes_are_refused() {
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        let mut stream = frame(OpCode::Text, true, b"x");
        stream[0] = 0x80 | opcode;
        assert_refused(&stream, Role::Server, ProtocolError::ReservedOpcode, 1002);
    }
}

#[test]
fn unmasked_frame_to_a_server_is_refused() {
    assert_refused(b"\x81\x01x", Role::Server, ProtocolError::UnmaskedFrame, 1002);
}

#[test]
fn masked_frame_to_a_client_is_refused() {
    let stream = frame(OpCode::Text, true, b"x");
    assert_refused(&stream, Role::Client, ProtocolError::MaskedFrame, 1002);
}

#[test]
fn length_that_is_not_minimal_is_refused() {
    let streams: [&[u8]; 4] = [
        b"\x82\x7e\x00\x05hello",
        b"\x82\x7e\x00\x7d",
        b"\x82\x7f\x00\x00\x00\x00\x00\x00\x00\x05hello",
        b"\x82\x7f\x00\x00\x00\x00\x00\x00\xff\xff",
    ];
    for stream in streams {
        assert_refused(stream, Role::Client, ProtocolError::NonMinimalLength, 1002);
    }
}

#[test]
fn length_with_its_high_bit_set_is_refused() {
    let stream = b"\x82\x7f\x80\x00\x00\x00\x00\x00\x00\x00";
    assert_refused(stream, Role::Client, ProtocolError::LengthHighBit, 1002);
}

#[test]
fn fragmented_control_frame_is_refused() {
    for opcode in [OpCode::Ping, OpCode::Pong, OpCode::Close] {
        let stream = frame(opcode, false, b"");
        assert_refused(&stream, Role::Server, ProtocolError::FragmentedControl, 1002);
    }
}

#[test]
fn control_frame_of_more_than_125_bytes_is_refused() {
    let stream = frame(OpCode::Ping, true, &[0; 126]);
    assert_refused(&stream, Role::Server, ProtocolError::OversizedControl, 1002);
    assert!(run(&frame(OpCode::Ping, true, &[0; 125]), 9, Role::Server, LIMITS).is_ok());
}

#[test]
fn continuation_without_a_message_is_refused() {
    for fin in [false, true] {
        let mut stream = frame(OpCode::Ping, true, b"");
        stream.extend(frame(OpCode::Continuation, fin, b"x"));
        assert_refused(&stream, Role::Server, ProtocolError::UnexpectedContinuation, 1002);
    }
}

#[test]
fn new_message_within_a_fragmented_one_is_refused() {
    for (opcode, fin) in [(OpCode::Text, true), (OpCode::Binary, false)] {
        let mut stream = frame(OpCode::Text, false, b"x");
        stream.extend(frame(opcode, fin, b"x"));
        assert_refused(&stream, Role::Server, ProtocolError::ExpectedContinuation, 1002);
    }
}

#[test]
fn close_payload_of_one_byte_is_refused() {
    let stream = frame(OpCode::Close, true, b"\x03");
    assert_refused(&stream, Role::Server, ProtocolError::TruncatedCloseCode, 1002);
}

#[test]
fn close_code_that_must_not_be_sent_is_refused() {
    for code in [0_u16, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65535] {
        let stream = frame(OpCode::Close, true, &code.to_be_bytes());
        assert_refused(&stream, Role::Server, ProtocolError::InvalidCloseCode, 1002);
    }
}

#[test]
fn text_that_is_not_utf8_is_refused() {
    for payload in [b"ab\xff".as_slice(), b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80", b"\xe2\x82"] {
        assert_refused(&frame(OpCode::Text, true, payload), Role::Server, ProtocolError::InvalidUtf8, 1007);
        let mut stream = frame(OpCode::Text, false, b"fine ");
        stream.extend(frame(OpCode::Continuation, true, payload));
        assert_refused(&stream, Role::Server, ProtocolError::InvalidUtf8, 1007);
    }
}

#[test]
fn close_reason_that_is_not_utf8_is_refused() {
    let stream = frame(OpCode::Close, true, b"\x03\xe8\xce\xba\xff");
    assert_refused(&stream, Role::Server, ProtocolError::InvalidUtf8, 1007);
}

#[test]
fn invalid_text_fails_at_its_first_bad_byte_and_not_at_the_end() {
    // Autobahn 6.4: the third frame is only begun; U+110000 is recognised by its second byte.
    let mut stream = frame(OpCode::Text, false, "κόσμε".as_bytes());
    let mut decoder = Decoder::new();
    let decoded = decoder.decode(&mut stream, Role::Server, LIMITS).expect("valid so far");
    assert_eq!(decoded.message, None);
    let mut tail = frame(OpCode::Continuation, true, b"\xf4\x90\x80\x80edited");
    let (head, rest) = tail.split_at_mut(7);
    assert_eq!(decoder.decode(head, Role::Server, LIMITS).map(|d| d.message), Ok(None));
    let error = decoder.decode(&mut rest[..1], Role::Server, LIMITS).expect_err("f4 90 begins no character");
    assert_eq!(error, ProtocolError::InvalidUtf8);
    assert!(decoder.is_idle(), "an error drops what was held");
}

#[test]
fn refused_control_frame_drops_the_message_around_it() {
    for step in [1, 100] {
        let mut decoder = Decoder::new();
        let mut stream = frame(OpCode::Text, false, b"begun");
        stream.extend(frame(OpCode::Close, true, b"\x03"));
        let errors =
            stream.chunks_mut(step).filter_map(|chunk| decoder.decode(chunk, Role::Server, LIMITS).err());
        assert_eq!(errors.collect::<Vec<_>>(), [ProtocolError::TruncatedCloseCode]);
        assert!(decoder.is_idle());
    }
}

#[test]
fn message_over_the_limit_is_refused_from_the_header_alone() {
    let limits = DecodeLimits { message_bytes: 100, fragments: 10 };
    let mut decoder = Decoder::new();
    let mut header = BytesMut::new();
    put_header(&mut header, OpCode::Binary, Fin::Last, 101, Some(KEY));
    let error = decoder.decode(&mut header, Role::Server, limits).expect_err("101 bytes are claimed");
    assert_eq!((error, error.close_code()), (ProtocolError::MessageTooLong, 1009));

    assert!(run(&frame(OpCode::Binary, true, &[0; 100]), 200, Role::Server, limits).is_ok());
    let whole = frame(OpCode::Binary, true, &[0; 101]);
    for step in [1, 200] {
        assert_eq!(run(&whole, step, Role::Server, limits), Err(ProtocolError::MessageTooLong));
    }
}

#[test]
fn message_limit_counts_all_fragments() {
    let limits = DecodeLimits { message_bytes: 100, fragments: 10 };
    for (last, accepted) in [(40, true), (41, false)] {
        let mut stream = frame(OpCode::Text, false, &[b'a'; 60]);
        stream.extend(frame(OpCode::Ping, true, &[0; 125]));
        stream.extend(frame(OpCode::Continuation, true, &vec![b'a'; last]));
        for step in [1, 9, 500] {
            let outcome = run(&stream, step, Role::Server, limits);
            assert_eq!(outcome.is_ok(), accepted, "{last}");
            assert!(accepted || outcome == Err(ProtocolError::MessageTooLong));
        }
    }
}

#[test]
fn message_of_more_fragments_than_the_limit_is_refused() {
    let limits = DecodeLimits { message_bytes: 100, fragments: 3 };
    for (count, accepted) in [(3, true), (4, false)] {
        let mut stream = frame(OpCode::Text, false, b"");
        for _ in 2..count {
            stream.extend(frame(OpCode::Continuation, false, b""));
        }
        stream.extend(frame(OpCode::Continuation, true, b""));
        let outcome = run(&stream, 5, Role::Server, limits);
        let expected =
            if accepted { Ok(vec!["Text(\"\")".into()]) } else { Err(ProtocolError::TooManyFragments) };
        assert_eq!(outcome, expected);
    }
    assert_eq!(ProtocolError::TooManyFragments.close_code(), 1009);
}

#[test]
fn memory_follows_what_arrived_and_not_what_was_claimed() {
    let mut decoder = Decoder::new();
    let mut header = BytesMut::new();
    put_header(&mut header, OpCode::Binary, Fin::Last, 16 << 20, Some(KEY));
    decoder.decode(&mut header, Role::Server, LIMITS).expect("valid");
    assert!(decoder.buffered() < 256, "{}", decoder.buffered());
    decoder.decode(&mut [0; 10_000], Role::Server, LIMITS).expect("valid");
    assert!((10_000..10_256).contains(&decoder.buffered()), "{}", decoder.buffered());
}

#[test]
fn delivered_message_is_freed_by_the_next_call() {
    let mut stream = frame(OpCode::Binary, true, &[1; 1000]);
    let mut decoder = Decoder::new();
    let (head, tail) = stream.split_at_mut(500);
    decoder.decode(head, Role::Server, LIMITS).expect("valid");
    let decoded = decoder.decode(tail, Role::Server, LIMITS).expect("valid");
    assert_eq!(decoded.message, Some(Message::Binary(&[1; 1000])));
    assert!(decoder.buffered() >= 1000);
    assert_eq!(decoder.decode(&mut [], Role::Server, LIMITS).map(|d| d.consumed), Ok(0));
    assert!(decoder.is_idle());
    assert_eq!(decoder.buffered(), 0);
}

/// 16 MiB in single bytes: quadratic copying or validation would take hours.
#[test]
fn large_text_in_single_bytes_is_linear() {
    let payload = "ä€\u{1f600}a".repeat((16 << 20) / 10);
    let mut stream = frame(OpCode::Text, true, payload.as_bytes());
    let mut decoder = Decoder::new();
    let last = stream.len() - 1;
    for (at, byte) in stream.chunks_mut(1).enumerate() {
        let decoded = decoder.decode(byte, Role::Server, LIMITS).expect("valid");
        assert_eq!(decoded.message.is_some(), at == last);
        if at == last {
            assert!(text(&decoded.message).as_deref() == Some(&payload));
        }
    }
}

#[test]
fn many_fragments_in_pieces_make_one_message_of_exact_size() {
    let mut stream = frame(OpCode::Text, false, &[b'x'; 256]);
    for _ in 2..65_536 {
        stream.extend(frame(OpCode::Continuation, false, &[b'x'; 256]));
    }
    stream.extend(frame(OpCode::Continuation, true, &[b'x'; 256]));
    for step in [1 << 16, 100] {
        let messages = run(&stream, step, Role::Server, LIMITS).expect("valid");
        assert_eq!(messages.len(), 1);
        assert_eq!(messages[0].len(), (16 << 20) + "Text(\"\")".len());
    }
}

#[test]
fn mask_is_continued_across_pieces_of_any_size() {
    let payload: Vec<u8> = (0..=255).collect();
    let mut masked = payload.clone();
    apply_mask(&mut masked, KEY, 0);
    let stream = frame(OpCode::Binary, true, &payload);
    assert_eq!(&stream[8..], masked);
    for step in 1..=stream.len() {
        let expected = format!("{:?}", Message::Binary(&payload));
        assert_eq!(run(&stream, step, Role::Server, LIMITS), Ok(vec![expected]));
    }
}
