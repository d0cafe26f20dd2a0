//! A publication like the one before: read by comparing its text with the shape of the last one. Publications
//! that the same code wrote differ in channel and message alone.

use super::TemplateMatch;
use crate::{
    command::Publish,
    json::{self, Object},
    publication::Payload,
};

/// The longest beginning of a text that is kept, in bytes.
const HEAD_BYTES: usize = 512;

/// The last publication of a dialect without its channel and its message.
#[derive(Default)]
pub(super) struct Template {
    /// The text up to the channel's name, or, of a broadcast, to the message. Empty: nothing is recorded.
    before: String,
    /// From behind the name to the message, which is the last member. Empty: it is a broadcast.
    after: String,
    event: String,
    echo: Option<bool>,
    history: bool,
}

/// The parts of a publication's text around its channel and before its message.
#[derive(Copy, Clone)]
pub(super) struct Shape<'a> {
    before: &'a str,
    after: &'a str,
}

impl<'a> Shape<'a> {
    /// The shape of a text with this object, whose channel and message are the members at these places.
    /// `None` if channel and message are not all that may differ in texts of this shape.
    pub(super) fn of(object: Object<'_, 'a>, channel: Option<usize>, message: usize) -> Option<Self> {
        let head = object.text_before(message);
        if message + 1 != object.len() || head.len() > HEAD_BYTES {
            return None;
        }
        let Some(channel) = channel else { return Some(Self { before: head, after: "" }) };
        let value = head.get(object.text_before(channel).len()..)?;
        let (_, after) = value.strip_prefix('"').and_then(json::plain_string)?;
        Some(Self { before: &head[..head.len() - value.len() + 1], after })
    }
}

impl Template {
    /// Replaces the recorded publication by `publish`, whose text has `shape`. The caller records no
    /// publication with an audience.
    pub(super) fn record(&mut self, shape: Shape<'_>, publish: &Publish<'_>) {
        // A broadcast with a channel is not worth recording.
        if shape.after.is_empty() != publish.channel.is_none() {
            return;
        }
        shape.before.clone_into(&mut self.before);
        shape.after.clone_into(&mut self.after);
        publish.event.clone_into(&mut self.event);
        (self.echo, self.history) = (publish.echo, publish.history);
    }

    /// Channel and message of a text that is otherwise the recorded publication. `closing` are the brackets
    /// behind the message.
    #[inline(always)]
    pub(super) fn match_text<'a>(&self, text: &'a str, closing: &'static str) -> Option<TemplateMatch<'a>> {
        let Self { before, after, .. } = self;
        if before.is_empty() {
            return None;
        }
        let mut rest = text.strip_prefix(&**before)?;
        let mut channel = None;
        if !after.is_empty() {
            let (name, behind) = json::plain_string(rest)?;
            channel = Some(name);
            rest = behind.strip_prefix(&**after)?;
        }
        Some(TemplateMatch { channel, payload: Payload::Json(json::last_value(rest, closing)?) })
    }

    /// The recorded publication with another channel and message.
    #[inline]
    pub(super) fn publish_from<'a>(&'a self, repeated: TemplateMatch<'a>) -> Publish<'a> {
        let Self { event, echo, history, .. } = self;
        let TemplateMatch { channel, payload } = repeated;
        Publish { channel, event, payload, echo: *echo, history: *history, audience: None }
    }
}
