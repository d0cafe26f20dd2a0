//! The fields of a message that its back end may decide.

/// Fields that a back end decides in the place of the server: the time and the sender's name. A message with
/// a back end's id always has a `Given` with a time.
#[derive(Clone, Eq, PartialEq, Default, Debug)]
pub struct Given {
    /// The time at which the message was sent. The message's age in a history counts from it.
    pub time: Option<GivenTime>,
    /// The time at which a change was made.
    pub edited: Option<GivenTime>,
    /// A name that receivers see as the sender. No user of that name need exist.
    pub label: Option<Box<str>>,
    /// A note that only the dialect of the message reads. A change of the message keeps the note.
    pub note: Option<Box<str>>,
    /// Whether an edit leaves the payload unchanged. Such an edit is delivered with the payload that the
    /// channel remembers, or with `null`.
    pub keeps_payload: bool,
}

/// A time that a back end gave.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct GivenTime {
    /// The time in Unix milliseconds.
    pub unix_ms: u64,
    /// The time in the dialect's form, which may be more exact and name a zone.
    pub text: Box<str>,
}

impl Given {
    /// Bytes of the texts.
    pub fn text_bytes(&self) -> usize {
        let time = |time: &Option<GivenTime>| time.as_ref().map_or(0, |time| time.text.len());
        let text = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| text.len());
        time(&self.time) + time(&self.edited) + text(&self.label) + text(&self.note)
    }

    /// The fields of a message after the change `change`.
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
