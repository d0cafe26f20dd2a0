//! JSON with bytes in it. Every dialect gets such a value as JSON in which bytes are written as JavaScript
//! writes a buffer, `{"type":"Buffer","data":[1,2]}`. Here they are bytes again on their way out.
//!
//! A value that came with bytes ends with a [`MARK`]: white space that no value has which a client wrote, for
//! values are taken without the white space around them. So what a client writes as JSON stays JSON.

use bytes::{Bytes, BytesMut};

use crate::{
    error::ReplyError,
    socketio::{Placeholders, has_placeholder},
};

/// What a value ends with that has bytes in it.
const MARK: char = '\t';

/// The same, as it is written.
pub(super) const MARK_TEXT: &[u8] = b"\t";

const HEAD: &str = r#"{"type":"Buffer","data":["#;
const TAIL: &str = "]}";

/// Attachments of a packet: stock clients refuse more. Further bytes stay as they are written in JSON.
const ATTACHMENTS: usize = 10;

/// Whether a value has bytes in it.
pub(super) fn is_mixed(json: &str) -> bool {
    json.ends_with(MARK)
}

/// Whether a value would be taken for an attachment in a packet that has some.
pub(super) fn is_forged(json: &str) -> bool {
    !is_mixed(json) && has_placeholder(json)
}

/// The value of a packet whose placeholders stand for `attachments`.
///
/// # Errors
/// If a placeholder stands for none.
pub(super) fn join(json: &str, attachments: &[Bytes]) -> Result<String, ReplyError> {
    let mut text = String::with_capacity(json.len() + attachments.iter().map(Bytes::len).sum::<usize>() * 4);
    let mut at = 0;
    for placeholder in Placeholders::find(json).iter() {
        let number = placeholder.number.and_then(|number| usize::try_from(number).ok());
        let bytes = number.and_then(|number| attachments.get(number)).ok_or(ReplyError::InvalidBinary)?;
        text.push_str(&json[at..placeholder.range.start]);
        put_bytes(&mut text, bytes);
        at = placeholder.range.end;
    }
    text.push_str(&json[at..]);
    // Attachments that nothing in this value stands for belong to another part of the packet.
    if at > 0 {
        text.push(MARK);
    }
    Ok(text)
}

fn put_bytes(text: &mut String, bytes: &[u8]) {
    text.push_str(HEAD);
    for (at, byte) in bytes.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        text.push_str(itoa::Buffer::new().format(*byte));
    }
    text.push_str(TAIL);
}

/// Appends a text that may have bytes in it, with a placeholder for each; returns the attachments.
pub(super) fn split(out: &mut BytesMut, json: &str) -> Vec<Bytes> {
    let mut attachments = Vec::new();
    let (mut at, mut from) = (0, 0);
    // No string has the head in it: its quotes would be escaped there.
    while let Some(found) = memchr::memmem::find(&json.as_bytes()[from..], HEAD.as_bytes()) {
        let start = from + found;
        from = start + HEAD.len();
        if attachments.len() == ATTACHMENTS {
            break;
        }
        let Some((bytes, len)) = take_bytes(&json[from..]) else { continue };
        out.extend_from_slice(&json.as_bytes()[at..start]);
        out.extend_from_slice(br#"{"_placeholder":true,"num":"#);
        out.extend_from_slice(itoa::Buffer::new().format(attachments.len()).as_bytes());
        out.extend_from_slice(b"}");
        attachments.push(bytes);
        from += len;
        at = from;
    }
    out.extend_from_slice(&json.as_bytes()[at..]);
    attachments
}

/// Reads the numbers behind a head: the bytes, and the length of the text with its end. `None`: they are no
/// bytes.
fn take_bytes(text: &str) -> Option<(Bytes, usize)> {
    let end = text.find(']')?;
    if !text[end..].starts_with(TAIL) {
        return None;
    }
    let numbers = &text[..end];
    let byte = |number: &str| {
        let is_written_so = number.bytes().all(|digit| digit.is_ascii_digit());
        is_written_so.then(|| number.parse::<u8>().ok()).flatten()
    };
    let bytes: Option<Vec<u8>> = match numbers {
        "" => Some(Vec::new()),
        numbers => numbers.split(',').map(byte).collect(),
    };
    Some((bytes?.into(), end + TAIL.len()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(json: &str) -> (String, Vec<Vec<u8>>) {
        let mut out = BytesMut::new();
        let attachments = split(&mut out, json);
        let text = String::from_utf8(out.to_vec()).expect("JSON is UTF-8");
        (text, attachments.iter().map(|bytes| bytes.to_vec()).collect())
    }

    #[test]
    fn bytes_stand_where_their_placeholders_stood() {
        let attachments = [Bytes::from_static(&[1, 255]), Bytes::new()];
        let json = r#"{"a":{"num":1,"_placeholder":true},"b":[{"_placeholder":true,"num":0}]}"#;
        let text = join(json, &attachments).expect("both are there");
        let expected = r#"{"a":{"type":"Buffer","data":[]},"b":[{"type":"Buffer","data":[1,255]}]}"#;
        assert_eq!(text, format!("{expected}\t"));
        assert!(is_mixed(&text) && serde_json::from_str::<serde_json::Value>(&text).is_ok());
        let (json, attachments) = parts(&text);
        let expected = r#"{"a":{"_placeholder":true,"num":0},"b":[{"_placeholder":true,"num":1}]}"#;
        assert_eq!(json, format!("{expected}\t"));
        assert_eq!(attachments, [vec![], vec![1, 255]]);
        assert_eq!(join(r#"{"a":1}"#, &[]).as_deref(), Ok(r#"{"a":1}"#), "nothing stands for bytes");
        assert!(join(r#"[{"_placeholder":true,"num":0}]"#, &[]).is_err());
    }

    #[test]
    fn what_only_looks_like_bytes_stays_as_it_is() {
        for json in [
            r#"{"type":"Buffer","data":[256]}"#,
            r#"{"type":"Buffer","data":[1,]}"#,
            r#"{"type":"Buffer","data":[+1]}"#,
            r#"{"type":"Buffer","data":[1, 2]}"#,
            r#"{"type":"Buffer","data":[1],"more":1}"#,
            r#"{"type":"Buffer","data":[[1]]}"#,
            r#""{\"type\":\"Buffer\",\"data\":[1]}""#,
            r#"{"type":"Buffer","data":["#,
        ] {
            assert_eq!(parts(json), (json.into(), vec![]), "{json}");
        }
    }

    #[test]
    fn a_packet_has_as_many_attachments_as_stock_clients_take() {
        let json = format!("[{}]", [r#"{"type":"Buffer","data":[7]}"#; 12].join(","));
        let (text, attachments) = parts(&json);
        assert_eq!((attachments.len(), text.matches("Buffer").count()), (10, 2));
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
    }

    proptest! {
        #[test]
        fn bytes_survive(one in any::<Vec<u8>>(), two in any::<Vec<u8>>(), text in ".*") {
            let string = serde_json::to_string(&text).expect("it encodes");
            let placeholder = |number: u32| format!(r#"{{"_placeholder":true,"num":{number}}}"#);
            let json = format!("[{string},{},{{{string}:{}}}]", placeholder(1), placeholder(0));
            let joined = join(&json, &[one.clone().into(), two.clone().into()]).expect("both are there");
            prop_assert!(serde_json::from_str::<serde_json::Value>(&joined).is_ok());
            let (_, attachments) = parts(&joined);
            prop_assert_eq!(attachments, [two, one]);
        }

        #[test]
        fn any_text_is_taken(text in ".*", head in any::<bool>()) {
            let text = if head { format!("{HEAD}{text}") } else { text };
            parts(&text);
        }
    }
}
