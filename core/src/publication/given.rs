//! What a back end says of its message itself.

/// What a back end decides of its message where the server would otherwise decide: when it was sent, and in
/// whose name. An id that the server has not made always comes with this and with a time.
#[derive(Clone, Eq, PartialEq, Default, Debug)]
pub struct Given {
    /// When the message was sent. Its age in a history counts from then.
    pub time: Option<GivenTime>,
    /// Of a change: when it was made.
    pub edited: Option<GivenTime>,
    /// A name that stands in the place of its sender. It need not be a user's.
    pub label: Option<Box<str>>,
    /// What the dialect alone reads that the message came by. A change of the message leaves it.
    pub note: Option<Box<str>>,
    /// Of an edit: it says nothing of the payload, which stays. A publication of it has the payload that the
    /// channel remembers, or `null`.
    pub keeps_payload: bool,
}

/// A time that a back end gave.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct GivenTime {
    /// In Unix milliseconds.
    pub unix_ms: u64,
    /// As its dialect writes it, which may be more exact and name a zone.
    pub text: Box<str>,
}

impl Given {
    /// Bytes of its texts.
    pub fn text_bytes(&self) -> usize {
        let time = |time: &Option<GivenTime>| time.as_ref().map_or(0, |time| time.text.len());
        let text = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| text.len());
        time(&self.time) + time(&self.edited) + text(&self.label) + text(&self.note)
    }

    /// What is known of a message with this after a change that says `change`.
    pub(super) fn changed(&self, change: &Given) -> Self {
        Self {
            time: change.time.clone().or_else(|| self.time.clone()),
            edited: change.edited.clone(),
            label: change.label.clone().or_else(|| self.label.clone()),
            note: self.note.clone(),
            keeps_payload: false,
        }
    }
}
