//! The fields that only a back end may set in messages and changes: ids, times and names.

use crate::{
    command::{AmendMessage, PublishAs},
    error::ReplyError,
    id::MessageId,
    json::Raw,
    publication::{Given, GivenTime, Payload},
    trigger::Triggers,
};

use super::{
    envelope::{Envelope, Name},
    errors::wrong,
};

const TIME: &str = "time_ms and edited_ms must be Unix milliseconds.";
const LABEL: &str = "label must be a string of 1 to 512 bytes.";
const ID: &str = "message_id must be a UUID.";
const IF_EXISTS: &str = "if_exists must be true or false.";
const LENIENT: &str = "lenient must be true or false.";
const ONCE: &str = "idempotency_key does not go with message_id, time_ms, label and if_exists.";

impl Envelope<'_, '_> {
    /// The publication with the fields that its back end set; `None` if the back end set none of them.
    pub(super) fn publication_as(&self) -> Result<Option<PublishAs<'_>>, ReplyError> {
        let id = self.string(Name::MessageId, ID)?;
        let id = id.map(|text| MessageId::parse(&text).ok_or(wrong(ID))).transpose()?;
        let given = Given { time: self.time("time_ms")?, label: self.label()?, ..Given::default() };
        let only_existing = self.flag("if_exists", IF_EXISTS)?;
        if id.is_none() && given == Given::default() && !only_existing {
            return Ok(None);
        }
        if self.idempotency_key()?.is_some() {
            return Err(wrong(ONCE));
        }
        Ok(Some(PublishAs {
            publish: self.publication()?,
            id,
            given,
            only_existing,
            triggers: Triggers::Run,
        }))
    }

    /// Whether a change has to be told even if the channel does not remember its message.
    pub(super) fn is_lenient(&self) -> Result<bool, ReplyError> {
        self.flag("lenient", LENIENT)
    }

    /// An edit or deletion of a message that the channel need not remember.
    pub(super) fn amendment(&self, deletes: bool) -> Result<AmendMessage<'_>, ReplyError> {
        let id = self.changed_id()?;
        let message = self.member(Name::Message).filter(|_| !deletes);
        let given = Given {
            time: self.time("time_ms")?,
            edited: self.time("edited_ms")?,
            label: self.label()?,
            note: None,
            keeps_payload: !deletes && message.is_none(),
        };
        let payload = message.map(|message| Payload::Json(message.as_str()));
        let audience = self.audience()?.unwrap_or_default();
        let (channel, triggers) = (self.optional_channel()?, Triggers::Run);
        Ok(AmendMessage { channel, id, deletes, payload, audience, given, triggers })
    }

    fn rare(&self, name: &str) -> Option<Raw<'_>> {
        self.object()?.given(name)
    }

    fn flag(&self, name: &str, sentence: &'static str) -> Result<bool, ReplyError> {
        let Some(value) = self.rare(name) else { return Ok(false) };
        value.as_bool().ok_or(wrong(sentence))
    }

    fn time(&self, name: &str) -> Result<Option<GivenTime>, ReplyError> {
        let Some(value) = self.rare(name) else { return Ok(None) };
        let unix_ms = value.as_u64().ok_or(wrong(TIME))?;
        Ok(Some(GivenTime { unix_ms, text: value.as_str().into() }))
    }

    fn label(&self) -> Result<Option<Box<str>>, ReplyError> {
        let Some(value) = self.rare("label") else { return Ok(None) };
        value.as_string().map(|label| Some(label.into())).ok_or(wrong(LABEL))
    }
}
