//! Engine.IO 4 by polling: a GET that the server holds until it has something to say, and a POST for what is
//! to be said, one after the other on one connection. So nothing can be said while a GET is held, which is no
//! matter for members: they have said everything before they begin to listen, and answer pings when they have
//! heard them.

use crate::net::{Conversation, Exchange, Request, Response, Texts};

/// Divides the packets of a body.
const SEPARATOR: u8 = 0x1E;
/// Bytes of a POST after which no further packet joins it.
const POST_BYTES: usize = 64 << 10;

const GET: u8 = 0;
const POST: u8 = 1;

/// The exchange of connections that poll.
pub(super) struct Polling {
    target: String,
}

impl Polling {
    /// Polls of this path.
    pub(super) fn new(path: &str) -> Self {
        Self { target: format!("{path}?EIO=4&transport=polling") }
    }
}

impl Exchange for Polling {
    fn is_ready(&self) -> bool {
        false
    }

    fn ask(&self, conversation: &mut Conversation, texts: &mut Texts) -> Option<Request> {
        let sid = match conversation.session.as_str() {
            "" => String::new(),
            sid => format!("&sid={sid}"),
        };
        let target = format!("{}{sid}", self.target);
        if texts.is_empty() {
            conversation.step = GET;
            return Some(Request { method: "GET", target, ..Request::default() });
        }
        let mut body = Vec::new();
        while body.len() < POST_BYTES
            && let Some(text) = texts.pop_front()
        {
            if !body.is_empty() {
                body.push(SEPARATOR);
            }
            body.extend_from_slice(&text);
        }
        conversation.step = POST;
        let headers = "Content-Type: text/plain;charset=UTF-8\r\n".into();
        Some(Request { method: "POST", target, headers, body })
    }

    fn hear(
        &self,
        conversation: &mut Conversation,
        answer: Response<'_>,
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<(), String> {
        let body = answer.succeeded()?.body;
        if conversation.step == POST {
            return Ok(());
        }
        if conversation.session.is_empty() {
            let text = String::from_utf8_lossy(body);
            let sid = super::between(&text, "\"sid\":\"", "\"");
            conversation.session = sid.ok_or("The answer to the first poll has no sid.")?.into();
        }
        body.split(|byte| *byte == SEPARATOR).filter(|packet| !packet.is_empty()).for_each(each);
        Ok(())
    }

    fn farewell(&self) -> Option<&'static [u8]> {
        Some(b"1")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polls_and_posts_take_turns() {
        let polling = Polling::new("/realtime/");
        let (mut conversation, mut texts) = (Conversation::default(), Texts::new());
        let ask = |conversation: &mut Conversation, texts: &mut Texts| {
            let Request { method, target, body, .. } = polling.ask(conversation, texts).expect("a request");
            (method, target, String::from_utf8(body).expect("text"))
        };
        let (first, with_sid) =
            ("/realtime/?EIO=4&transport=polling", "/realtime/?EIO=4&transport=polling&sid=S");
        assert_eq!(ask(&mut conversation, &mut texts), ("GET", first.into(), String::new()));
        let mut items = Vec::new();
        let mut each = |item: &[u8]| items.push(String::from_utf8(item.to_vec()).expect("text"));
        let open = Response { status: 200, body: br#"0{"sid":"S","upgrades":[]}"# };
        polling.hear(&mut conversation, open, &mut each).expect("good");
        texts.extend([&b"40{}"[..], b"42[1]"].map(Box::from));
        assert_eq!(ask(&mut conversation, &mut texts), ("POST", with_sid.into(), "40{}\u{1e}42[1]".into()));
        polling.hear(&mut conversation, Response { status: 200, body: b"ok" }, &mut each).expect("good");
        assert_eq!(ask(&mut conversation, &mut texts), ("GET", with_sid.into(), String::new()));
        let two = Response { status: 200, body: b"2\x1e42[2]" };
        polling.hear(&mut conversation, two, &mut each).expect("good");
        assert_eq!(items, [r#"0{"sid":"S","upgrades":[]}"#, "2", "42[2]"]);
        let unknown = Response { status: 400, body: br#"{"code":1}"# };
        assert!(polling.hear(&mut conversation, unknown, &mut |_| {}).is_err());
    }
}
