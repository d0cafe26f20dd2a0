//! The baseline of `send`, `broadcast` and `presence`: what a server does that parses each command into a
//! tree, keeps members in a hash map, and serialises the frame anew for each receiver.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

/// Channels with members, and what each session is to receive.
#[derive(Default)]
pub struct Naive {
    channels: HashMap<String, BTreeMap<usize, Value>>,
    queues: Vec<Vec<u8>>,
}

impl Naive {
    /// A server with `sessions` sessions, of which the first `members` are in the channel `room`.
    pub fn new(sessions: usize, members: usize) -> Self {
        let mut naive = Self { channels: HashMap::new(), queues: vec![Vec::new(); sessions] };
        let room = (0..members).map(|session| (session, Value::Null)).collect();
        naive.channels.insert("room".into(), room);
        naive
    }

    /// Handles a command of a session.
    ///
    /// # Panics
    /// If the text is no command that this server knows.
    pub fn receive(&mut self, session: usize, text: &str) {
        let command: Value = serde_json::from_str(text).expect("it is JSON");
        let channel = command["channel"].as_str().unwrap_or("room").to_owned();
        match command["type"].as_str().expect("it has a type") {
            "send" => self.publish(&channel, &command["event"], &command["message"]),
            "broadcast" => {
                for queue in &mut self.queues {
                    let frame =
                        json!({"channel": null, "event": command["event"], "message": command["message"]});
                    queue.extend_from_slice(frame.to_string().as_bytes());
                }
            }
            "join" => {
                self.channels.entry(channel.clone()).or_default().insert(session, Value::Null);
                self.publish(&channel, &json!("channel:join"), &json!({"id": session}));
            }
            "leave" => {
                self.channels.entry(channel.clone()).or_default().remove(&session);
                self.publish(&channel, &json!("channel:leave"), &json!({"id": session}));
            }
            "update" => {
                let member = json!({"id": session, "data": command["profile"]});
                self.channels.entry(channel.clone()).or_default().insert(session, command["profile"].clone());
                self.publish(&channel, &json!("channel:update"), &member);
            }
            other => panic!("{other} is no command"),
        }
    }

    fn publish(&mut self, channel: &str, event: &Value, message: &Value) {
        for &member in self.channels[channel].keys() {
            let frame = json!({"channel": channel, "event": event, "message": message});
            self.queues[member].extend_from_slice(frame.to_string().as_bytes());
        }
    }

    /// Writes what was queued. Returns the bytes.
    pub fn flush(&mut self) -> usize {
        let bytes = self.queues.iter().map(Vec::len).sum();
        self.queues.iter_mut().for_each(Vec::clear);
        bytes
    }
}
