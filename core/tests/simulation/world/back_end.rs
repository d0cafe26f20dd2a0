//! Random requests of the back end.

use fanfare_core::{
    command::{BackEndCommand, Disconnection, Outcome, Publish},
    error::ReplyError,
    id::AppId,
    publication::Payload,
};

use super::{Mode, World};
use crate::{
    checker::{Key, Peer},
    client::BACK_END,
    command::payload,
};

impl World {
    pub(super) fn request_random(&mut self) {
        let worker = self.random.below(self.engines.len());
        let app = self.random.below(self.rules.len()) as u32;
        let id = AppId(app as u16);
        let channel = self.random.below(self.channels);
        let name = format!("c{channel}");
        let token = self.next_request;
        self.next_request += 1;
        self.engines[worker].begin_turn(self.now_ms);
        let answer = match self.random.below(10) {
            0..6 => {
                let number = self.number();
                let sender = BACK_END - Peer::from(self.first_worker) - worker as Peer;
                let text = payload(app, sender, number);
                let channel = self.random.chance(80).then_some(channel);
                let to = channel.map(|_| &*name);
                let key = Key::Message { sender, number };
                let publish = Publish::new(to, "e", Payload::Json(&text));
                let answer = self.engines[worker].request(id, BackEndCommand::publish(publish), token);
                if self.mode == Mode::Exact {
                    let offset = self.model.send(app, channel, key, None);
                    match &answer {
                        Some(Ok(Outcome::Sent { offset: got, .. })) => assert_eq!(*got, offset),
                        other => assert!(channel.is_none(), "{other:?}"),
                    }
                }
                answer
            }
            6..8 => {
                let limit = 1 + self.random.below(3);
                let command = BackEndCommand::Members { channel: &name, limit, after: None };
                self.engines[worker].request(id, command, token)
            }
            8 => {
                let Some(client) = self.random_open(false) else { return };
                let whom = Disconnection::Session(self.clients[client].session);
                self.engines[worker].request(id, BackEndCommand::Disconnect { whom, reconnect: true }, token)
            }
            _ if self.random.chance(30) => {
                // A session that is disconnected while it is parked ends unseen.
                self.all_come_back();
                let whom = Disconnection::User("u".into());
                self.engines[worker].request(id, BackEndCommand::Disconnect { whom, reconnect: false }, token)
            }
            _ => {
                let command = BackEndCommand::Channels { prefix: "c", limit: 2, after: None };
                let answer = self.engines[worker].request(id, command, token);
                assert!(matches!(answer, Some(Ok(Outcome::Channels(_)))), "{answer:?}");
                return;
            }
        };
        match answer {
            None => assert!(self.requests.insert(token)),
            Some(Err(error)) => assert_eq!(error, ReplyError::Overloaded),
            Some(Ok(_)) => {}
        }
    }
}
