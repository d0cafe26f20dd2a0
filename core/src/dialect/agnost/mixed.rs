//! JSON values that contain bytes. Every dialect sees the bytes in such a value as JavaScript writes a
//! buffer, `{"type":"Buffer","data":[1,2]}`. This dialect sends them as attachments again.
//!
//! A value that came with attachments ends with a [`MARK`], a character of white space. No value of a client
//! ends with white space, because the dialects trim values. So JSON that a client wrote in the form of a
//! buffer stays JSON.

use bytes::{Bytes, BytesMut};

use crate::{
    dialect::buffer::{HEAD, TAIL, write_buffer},
    error::ReplyError,
    socketio::{Placeholders, has_placeholder},
};

/// The end of a value that contains bytes.
const MARK: char = '\t';

/// The mark as text.
pub(super) const MARK_TEXT: &[u8] = b"\t";

/// The most attachments of a packet, beyond which stock clients close the connection. Further buffers stay
/// JSON.
const ATTACHMENTS: usize = 10;

/// Whether a value contains bytes.
pub(super) fn is_mixed(json: &str) -> bool {
    json.ends_with(MARK)
}

/// Whether clients would take a part of the value for the placeholder of an attachment.
pub(super) fn is_forged(json: &str) -> bool {
    !is_mixed(json) && has_placeholder(json)
}

/// The JSON value of a packet, with `attachments` in the place of its placeholders.
///
/// # Errors
/// If a placeholder stands for no attachment.
pub(super) fn join(json: &str, attachments: &[Bytes]) -> Result<String, ReplyError> {
    let mut text = String::with_capacity(json.len() + attachments.iter().map(Bytes::len).sum::<usize>() * 4);
    let mut at = 0;
    for placeholder in Placeholders::find(json).iter() {
        let number = placeholder.number.and_then(|number| usize::try_from(number).ok());
        let bytes = number.and_then(|number| attachments.get(number)).ok_or(ReplyError::InvalidBinary)?;
        text.push_str(&json[at..placeholder.range.start]);
        write_buffer(bytes, |part| text.push_str(part));
        at = placeholder.range.end;
    }
    text.push_str(&json[at..]);
    // Attachments without a placeholder in this value belong to another part of the packet.
    if at > 0 {
        text.push(MARK);
    }
    Ok(text)
}

/// Appends a text, with a placeholder for each buffer in it. Returns the attachments.
pub(super) fn split(out: &mut BytesMut, json: &str) -> Vec<Bytes> {
    let mut attachments = Vec::new();
    let (mut at, mut from) = (0, 0);
    // The head of a buffer is in no JSON string, where its quotes would be escaped.
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

/// Reads the numbers of a buffer behind its head. Returns the bytes, and the length of the text with its end;
/// `None` if the text is not a buffer.
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
