//! Commands of clients, and their deliveries.

use std::{sync::atomic::Ordering, thread, time::Duration};

use bytes::BytesMut;
use fanfare_core::ws::{OpCode, put_frame};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Mischief, server::Server};

#[derive(Deserialize)]
struct Command<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    channel: Option<&'a str>,
    event: Option<&'a str>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    since: Option<Position<'a>>,
}

#[derive(Deserialize)]
struct Position<'a> {
    epoch: &'a str,
    offset: usize,
}

impl Server {
    pub(super) fn execute(&mut self, number: usize, text: &str) {
        let command: Command<'_> = serde_json::from_str(text).expect("a good command");
        let channel = command.channel.unwrap_or_default();
        match command.kind {
            "send" if self.mischief == Mischief::Overloaded => {
                self.put(number, "{\"error\":{\"code\":\"overloaded\",\"message\":\"later\"}}");
            }
            "send" | "broadcast" => self.send(number, &command),
            "join" if self.is_join_to_be_hung_up() => self.hang_up(number),
            "join" => {
                self.notify(number, channel, "join");
                self.channels.entry(channel.to_owned()).or_default().push(number);
                if let Some(connection) = self.connections[number].as_mut() {
                    connection.joined.push(channel.to_owned());
                }
                match self.mischief {
                    Mischief::Recover
                    | Mischief::RecoverTooFew
                    | Mischief::RecoverTooMany
                    | Mischief::Forget => self.recover(number, &command),
                    _ => self.put_ok(number, command.id),
                }
            }
            "update" => {
                let of_member = self.channels.iter().filter(|(_, members)| members.contains(&number));
                for channel in of_member.map(|(channel, _)| channel.clone()).collect::<Vec<_>>() {
                    self.notify(number, &channel, "update");
                }
                self.put_ok(number, command.id);
            }
            "members" => self.put_ok(number, command.id),
            "leave" => {
                self.leave(number, channel);
                self.put_ok(number, command.id);
            }
            other => panic!("unexpected command {other}"),
        }
    }

    fn is_join_to_be_hung_up(&mut self) -> bool {
        self.joins += 1;
        if let Mischief::StopAtJoin { at_join, milliseconds } = self.mischief
            && self.joins == at_join
        {
            thread::sleep(Duration::from_millis(milliseconds));
        }
        matches!(self.mischief, Mischief::HangUpOnJoin { every } if self.joins.is_multiple_of(every))
    }

    /// Answers a join, and sends what was missed.
    fn recover(&mut self, number: usize, command: &Command<'_>) {
        let channel = command.channel.expect("a channel");
        let log = self.logs.entry(channel.to_owned()).or_default();
        let mut missed = Vec::new();
        let mut recovery = String::new();
        if let Some(since) = &command.since {
            assert_eq!(since.epoch, "epoch-1");
            missed = log[since.offset..].to_vec();
            let is_recovered = self.mischief != Mischief::Forget;
            recovery = format!(",\"recovered\":{is_recovered},\"missed\":{}", missed.len());
        }
        let (id, offset) = (command.id.expect("a number"), log.len());
        self.put(
            number,
            &format!("{{\"id\":{id},\"ok\":{{\"epoch\":\"epoch-1\",\"offset\":{offset}{recovery}}}}}"),
        );
        match (self.mischief, missed.last().cloned()) {
            (Mischief::Forget, _) => missed.clear(),
            (Mischief::RecoverTooFew, Some(_)) => drop(missed.remove(0)),
            (Mischief::RecoverTooMany, Some(last)) => missed.push(last),
            _ => {}
        }
        let Some(connection) = self.connections[number].as_mut() else { return };
        missed.iter().for_each(|frame| connection.out.extend_from_slice(frame));
    }

    pub(super) fn leave(&mut self, number: usize, channel: &str) {
        let members = self.channels.get_mut(channel).expect("a channel that exists");
        members.retain(|member| *member != number);
        self.notify(number, channel, "leave");
    }

    fn notify(&mut self, number: usize, channel: &str, what: &str) {
        if let Mischief::MergeNotices { every, until } = self.mischief {
            let is_merged = match what {
                // Watchers join by their path, before anything is counted.
                "join" if (9..until).contains(&self.joins) && self.joins.is_multiple_of(every) => {
                    self.silent.insert(number)
                }
                "leave" => self.silent.remove(&number),
                _ => false,
            };
            if is_merged {
                return;
            }
        }
        let notice = format!(
            "{{\"channel\":\"{channel}\",\"event\":\"channel:{what}\",\
             \"message\":{{\"id\":\"session-{number}\"}}}}"
        );
        let mut frame = BytesMut::new();
        put_frame(&mut frame, OpCode::Text, notice.as_bytes());
        let members = self.channels.get(channel).cloned().unwrap_or_default();
        if let (Mischief::TellLate, "join", [first]) = (self.mischief, what, &members[..])
            && let Some(first) = self.connections[*first].as_mut()
        {
            first.held.extend_from_slice(&frame);
            return;
        }
        for member in members {
            if member != number {
                self.deliver(member, &frame);
            }
        }
    }

    fn send(&mut self, number: usize, command: &Command<'_>) {
        self.sends += 1;
        match self.mischief {
            Mischief::Stop { at_send, milliseconds } if self.sends == at_send => {
                thread::sleep(Duration::from_millis(milliseconds));
            }
            Mischief::LoseMessage { number } if self.sends == number => return,
            _ => {}
        }
        let Some(wrapped) = self.judge(number, command) else { return };
        let channel = command.channel.unwrap_or("everyone");
        let event = command.event.expect("an event");
        let is_skipped =
            matches!(self.mischief, Mischief::Skip { every } if self.sends.is_multiple_of(every));
        let offset = self.offsets.entry(channel.to_owned()).or_default();
        *offset += 1 + u64::from(is_skipped);
        let publication = format!(
            "{{\"channel\":\"{channel}\",\"event\":\"{event}\",\"message\":{wrapped},\"offset\":{offset}}}"
        );
        let mut frame = BytesMut::new();
        put_frame(&mut frame, OpCode::Text, publication.as_bytes());
        if let Some(log) = self.logs.get_mut(channel) {
            log.push(frame.clone());
        }
        let members = match command.channel {
            Some(channel) => self.channels.remove(channel).unwrap_or_default(),
            None => (0..self.connections.len()).collect(),
        };
        if let (Mischief::LastOneLater, Some((last, others))) = (self.mischief, members.split_last()) {
            others.iter().for_each(|member| self.deliver(*member, &frame));
            let Some(last) = self.connections[*last].as_mut() else { return };
            if !last.held.is_empty() {
                self.hang_up(number);
            } else {
                last.held.extend_from_slice(&frame);
            }
            self.channels.insert(channel.to_owned(), members);
            return;
        }
        for member in &members {
            if *member != number || self.mischief == Mischief::Echo {
                self.deliver(*member, &frame);
            }
        }
        if let Mischief::Misdeliver { every } = self.mischief
            && self.sends.is_multiple_of(every)
            && let Some(stranger) = self.channels.values().flatten().next()
        {
            self.deliver(*stranger, &frame);
        }
        if command.channel.is_some() {
            self.channels.insert(channel.to_owned(), members);
        }
    }

    /// What the trigger makes of a message: what is published, if anything is. The sender is told.
    fn judge(&mut self, number: usize, command: &Command<'_>) -> Option<String> {
        let message = command.message.expect("a message").get();
        let is_due = |every: u64| self.sends.is_multiple_of(every);
        let (is_refused, is_replaced, is_answered) = match self.mischief {
            Mischief::Judge { refused, replaced, answered } => {
                (is_due(refused), is_due(replaced), is_due(answered))
            }
            Mischief::RefuseInVain { every } => (is_due(every), false, false),
            _ => return Some(message.to_owned()),
        };
        let id = command.id.expect("a number");
        if is_answered {
            let channel = command.channel.unwrap_or_default();
            let answer = format!("{{\"channel\":\"{channel}\",\"event\":\"last\",\"message\":[1]}}");
            self.put(number, &answer);
        }
        if is_refused {
            let error = "{\"code\":\"refused\",\"message\":\"no\"}";
            self.put(number, &format!("{{\"id\":{id},\"error\":{error}}}"));
        } else {
            self.put_ok(number, Some(id));
        }
        match self.mischief {
            Mischief::Judge { .. } if is_refused => None,
            _ if is_replaced => Some(format!("{{\"text\":{message},\"checked\":true}}")),
            _ => Some(message.to_owned()),
        }
    }

    fn deliver(&mut self, number: usize, frame: &[u8]) {
        self.deliveries += 1;
        self.counter.store(self.deliveries, Ordering::Relaxed);
        let is_due = |every: u64| self.deliveries.is_multiple_of(every);
        let Some(connection) = self.connections[number].as_mut() else { return };
        if connection.out.is_empty() {
            self.dirty.push(number);
        }
        match self.mischief {
            Mischief::Lose { every } if is_due(every) => return,
            Mischief::Repeat { every } if is_due(every) => connection.out.extend_from_slice(frame),
            Mischief::Reorder { every } if is_due(every) && connection.held.is_empty() => {
                connection.held.extend_from_slice(frame);
                return;
            }
            Mischief::Corrupt { every } if is_due(every) => {
                let mut frame = frame.to_vec();
                let at = frame.windows(4).position(|bytes| bytes == b"~FF~").map_or(8, |at| at + 20);
                frame[at] = if frame[at] == b'a' { b'b' } else { b'a' };
                connection.out.extend_from_slice(&frame);
                return;
            }
            Mischief::HangUp { every } if is_due(every) => return self.hang_up(number),
            _ => {}
        }
        if self.mischief.has_tickets() {
            return self.put_frame(number, frame);
        }
        connection.out.extend_from_slice(frame);
        let held = std::mem::take(&mut connection.held);
        connection.out.extend_from_slice(&held);
    }

    fn put_ok(&mut self, number: usize, id: Option<&RawValue>) {
        if let Some(id) = id {
            self.put(number, &format!("{{\"id\":{id},\"ok\":{{}}}}"));
        }
    }
}
