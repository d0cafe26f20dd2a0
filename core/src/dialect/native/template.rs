//! The native reader of commands, which knows publications like the one before.

use super::envelope::{Envelope, Name};
use crate::{
    command::Publish,
    dialect::{
        TemplateMatch,
        template::{Shape, Template},
    },
    json::Scanner,
};

/// Reads commands. It keeps the scanner's tables from frame to frame, and the shape of the last publication.
#[derive(Default)]
pub struct CommandReader {
    pub(super) scanner: Scanner,
    pub(super) last: Template,
}

impl CommandReader {
    /// Channel and message of a frame that is otherwise the recorded publication.
    #[inline]
    pub fn match_template<'a>(&self, text: &'a str) -> Option<TemplateMatch<'a>> {
        self.last.match_text(text, "}")
    }

    /// The recorded publication with another channel and message.
    #[inline]
    pub fn publish_from<'a>(&'a self, repeated: TemplateMatch<'a>) -> Publish<'a> {
        self.last.publish_from(repeated)
    }
}

impl Envelope<'_, '_> {
    /// Records the publication that this envelope says, if channel and message are all that may differ in
    /// others like it.
    pub(super) fn record(&self, last: &mut Template, publish: &Publish<'_>) {
        let (Some(object), Some(message)) = (self.object(), self.place(Name::Message)) else { return };
        let is_like_others = publish.audience.is_none() && self.place(Name::Id).is_none();
        if let Some(shape) = Shape::of(object, self.place(Name::Channel), message).filter(|_| is_like_others)
        {
            last.record(shape, publish);
        }
    }
}
