//! A publication like the one before: read by comparing its frame with the shape of the last one.

use super::envelope::{Envelope, Name};
use crate::{
    command::Publish,
    dialect::TemplateMatch,
    json::{self, Scanner},
    publication::Payload,
};

/// Reads commands. It keeps the scanner's tables from frame to frame, and the shape of the last publication:
/// publications that the same code wrote differ in channel and message alone.
#[derive(Default)]
pub struct CommandReader {
    pub(super) scanner: Scanner,
    pub(super) last: Template,
}

impl CommandReader {
    /// Channel and message of a frame that is otherwise the recorded publication.
    #[inline]
    pub fn match_template<'a>(&self, text: &'a str) -> Option<TemplateMatch<'a>> {
        let Template { before, after, .. } = &self.last;
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
        Some(TemplateMatch { channel, payload: Payload::Json(json::last_value(rest)?) })
    }

    /// The recorded publication with another channel and message.
    #[inline]
    pub fn publish_from<'a>(&'a self, repeated: TemplateMatch<'a>) -> Publish<'a> {
        let Template { event, echo, history, .. } = &self.last;
        let TemplateMatch { channel, payload } = repeated;
        Publish { channel, event, payload, echo: *echo, history: *history, audience: None }
    }
}

/// A publication without its channel and its message.
#[derive(Default)]
pub(super) struct Template {
    /// Its frame up to the channel's name, or, of a broadcast, to the message. Empty: nothing is recorded.
    before: String,
    /// From behind the name to the message, which is its last member. Empty: it is a broadcast.
    after: String,
    event: String,
    echo: Option<bool>,
    history: bool,
}

/// The longest beginning of a frame that is kept, in bytes.
const HEAD_BYTES: usize = 512;

impl Template {
    /// Records the shape of a frame, if channel and message are all that may differ in it.
    pub(super) fn record(&mut self, envelope: &Envelope<'_, '_>, publish: &Publish<'_>) {
        let (Some(object), Some(message)) = (envelope.object(), envelope.place(Name::Message)) else {
            return;
        };
        let head = object.text_before(message);
        let is_like_others = publish.audience.is_none() && envelope.place(Name::Id).is_none();
        if !is_like_others || message + 1 != object.len() || head.len() > HEAD_BYTES {
            return;
        }
        let (before, after) = match (envelope.place(Name::Channel), publish.channel) {
            (Some(place), Some(channel)) => {
                let (before, value) = head.split_at(object.text_before(place).len());
                let Some((name, after)) = value.strip_prefix('"').and_then(json::plain_string) else {
                    return;
                };
                debug_assert_eq!(name, channel, "it has no escapes");
                (&head[..before.len() + 1], after)
            }
            (None, None) => (head, ""),
            // A broadcast with a channel is not worth recording.
            _ => return,
        };
        before.clone_into(&mut self.before);
        after.clone_into(&mut self.after);
        publish.event.clone_into(&mut self.event);
        (self.echo, self.history) = (publish.echo, publish.history);
    }
}
