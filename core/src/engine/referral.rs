//! Publications and edits of back ends with fields of their own. They wait for the app's triggers like any
//! other; a referral keeps their fields until the verdict. A dialect that keeps messages itself asks for the
//! verdict first, and then gives commands that pass by the triggers.

use super::{Engine, trigger::Deed, waiting::Progress};
use crate::{
    command::{AmendMessage, Judge, Outcome, Publish, PublishAs},
    error::ReplyError,
    id::{AppId, MessageId},
    publication::{Audience, Given, Payload},
    trigger::{Action, Origin, TriggerInput, TriggerKind, Triggers},
};

/// The fields of a command that its input does not have.
pub(super) enum Referral {
    PublishAs { id: Option<MessageId>, given: Given, only_existing: bool },
    ToUser { user: Box<str>, note: Option<Box<str>> },
    Amend { id: MessageId, audience: Audience, given: Given },
}

impl Engine {
    /// Calls the triggers for a command of the back end, if there are any. `publish` is the command's
    /// message.
    pub(super) fn refer(
        &mut self,
        app: AppId,
        publish: &Publish<'_>,
        referral: impl FnOnce() -> Referral,
    ) -> Option<Result<Progress, ReplyError>> {
        if !self.node.has_triggers(app) {
            return None;
        }
        let run = self.run_for(app, publish, None, Origin::BackEnd)?;
        let referral = referral();
        let input = self.input_of(publish, publish.payload, None);
        let input = match &referral {
            Referral::PublishAs { .. } | Referral::ToUser { .. } => input,
            Referral::Amend { id, .. } => {
                TriggerInput { kind: TriggerKind::Edit, message_id: Some(*id), ..input }
            }
        };
        Some(self.call(app, run, input, Deed::Referred(Box::new(referral))))
    }

    /// Runs the triggers on a message or a join of the back end. The outcome is the payload that they decide.
    pub(super) fn judge(&mut self, app: AppId, judge: &Judge<'_>) -> Result<Progress, ReplyError> {
        let Judge { kind, publish, message_id } = judge;
        let run = match (kind.action(), publish.channel) {
            (Action::Join, Some(channel)) => self.run_at(app, Action::Join, channel, Origin::BackEnd),
            _ => self.run_for(app, publish, None, Origin::BackEnd),
        };
        let Some(run) = run else {
            return Ok(Progress::Finished(Outcome::Judged(publish.payload.into())));
        };
        let (kind, message_id) = (*kind, *message_id);
        let input = self.input_of(publish, publish.payload, None);
        self.call(app, run, TriggerInput { kind, message_id, ..input }, Deed::Judge)
    }

    /// Executes a command that its triggers have admitted.
    pub(super) fn execute_referred(
        &mut self,
        app: AppId,
        input: &TriggerInput,
        referral: Referral,
        payload: Payload<'_>,
    ) -> Result<Progress, ReplyError> {
        let channel = input.channel.as_deref();
        let triggers = Triggers::PassBy;
        match referral {
            Referral::PublishAs { id, given, only_existing } => {
                let publish = Publish {
                    history: input.history,
                    audience: input.audience.clone(),
                    ..Publish::new(channel, &input.event, payload)
                };
                self.publish_as(app, PublishAs { publish, id, given, only_existing, triggers })
            }
            Referral::ToUser { user, note } => {
                self.publish_to(app, (&user, note), &Publish::new(None, &input.event, payload), triggers)
            }
            Referral::Amend { id, audience, given } => {
                let (deletes, payload) = (false, Some(payload));
                self.amend(app, AmendMessage { channel, id, deletes, payload, audience, given, triggers })
            }
        }
    }
}
