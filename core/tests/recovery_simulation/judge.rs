//! What holds whenever everything has come to rest: the model is fed with what took place, and everything
//! that was received, answered and remembered is held against it.

use std::collections::BTreeMap;

use fanfare_core::{
    app::{ChannelOptions, HistoryLimits},
    channel::PageStart,
    command::{BackEndCommand, OptionsChange, Outcome},
    publication::Payload,
};
use serde_json::{Value, json};

use super::{
    client::{Known, Position, Return, Seen, View},
    model::{ChannelOp, Event, Expected, Fate, Number, Op, Stream},
    world::{APP, USERS, World, random_limits},
};

/// A message of a page: its offset, its payload, and whether it says that it was edited.
type Listed = (u64, Number, bool);

/// What a frame around a payload has at most.
const AROUND: usize = 300;

/// What a burst began with.
#[derive(Default)]
pub(super) struct Start {
    /// The number of the first operation.
    op: Number,
    /// Of each channel, its epoch, what certainly was forgotten already, and whether it may have been over.
    channels: Vec<(Option<String>, u64, bool)>,
}

impl World {
    /// Lets everything come to rest, judges it, and begins anew.
    pub(crate) fn rest(&mut self) {
        self.quiesce();
        for client in &self.clients {
            let Some(session) = &client.session else { continue };
            assert!(!session.paused, "client {} waits for ever", client.number);
            assert!(
                session.asked.is_empty(),
                "client {}: no answer to {:?}",
                client.number,
                session.asked[0]
            );
        }
        (0..self.channels()).for_each(|channel| self.note_epoch(channel));
        (0..self.channels()).for_each(|channel| self.replay(channel));
        (0..self.channels()).for_each(|channel| self.check_channel(channel));
        self.ops[self.start.op..].iter().for_each(|op| self.check_fate(op));
        let returns = std::mem::take(&mut self.returns);
        returns.iter().for_each(|back| self.check_return(back));
        let seen = std::mem::take(&mut self.seen);
        seen.iter().for_each(|seen| self.check_seen(seen));
        (0..self.clients.len()).for_each(|client| self.check_views(client));
        (0..self.channels()).for_each(|channel| self.check_pages(channel));
        if self.random.chance(70) {
            let channel = self.random.below(self.channels());
            self.probe(channel);
        }
        let used = self.workers.node.remembered(APP);
        assert!(used <= self.style.history_bytes, "{used} bytes are remembered");
        self.begin();
    }

    /// The clock goes on, a channel is to be another, and the next burst begins.
    fn begin(&mut self) {
        if self.random.chance(20) {
            let channel = self.random.below(self.channels());
            self.set_options(channel);
        }
        if self.random.chance(50) {
            let seconds = if self.random.chance(90) { 1 + self.random.below(3) } else { 10 };
            self.now_ms += 1000 * seconds as u64;
        }
        self.quiesce();
        for channel in 0..self.channels() {
            self.streams[channel].expire(self.now_ms);
            if self.members(channel) > 0 {
                self.streams[channel].used_ms = self.now_ms;
            }
        }
        let start =
            |stream: &Stream| (stream.epoch.clone(), stream.forgotten, stream.may_vanish(self.now_ms));
        self.start = Start { op: self.ops.len(), channels: self.streams.iter().map(start).collect() };
    }

    fn set_options(&mut self, channel: usize) {
        let bytes = self.style.limits.bytes;
        let limits = match self.random.below(10) {
            0 => None,
            1 | 2 if channel < self.style.watched => {
                Some(HistoryLimits { messages: 0, bytes, ..HistoryLimits::NONE })
            }
            _ => Some(HistoryLimits { bytes, ..random_limits(&mut self.random) }),
        };
        let default = self.workers.node.app(APP).default_options();
        let options = limits.map(|history| ChannelOptions { history, ..default });
        let change = options.map(OptionsChange::from).unwrap_or_default();
        let command = BackEndCommand::SetOptions { channel: &name(channel), change, only_new: false };
        let answer = self.workers.engines[0].request(APP, command, 0);
        assert!(matches!(answer, Some(Ok(Outcome::Options { .. }))), "{answer:?}");
        let stream = &mut self.streams[channel];
        stream.limits = limits.unwrap_or(self.style.limits);
        stream.bound();
    }

    fn members(&self, channel: usize) -> usize {
        self.clients.iter().filter(|client| client.is_member(channel)).count()
    }

    fn stream(&self, channel: usize) -> &Stream {
        &self.streams[channel]
    }

    /// Feeds the model with what took an offset in this burst: by the answers, and, if who asked was gone, by
    /// what the witness saw.
    fn replay(&mut self, channel: usize) {
        let mut took: BTreeMap<u64, (Number, String)> = BTreeMap::new();
        for number in self.start.op..self.ops.len() {
            if let Op { channel: of, fate: Fate::Done { id, offset: Some(offset) }, .. } = &self.ops[number]
                && *of == channel
            {
                let other = took.insert(*offset, (number, id.clone()));
                assert!(other.is_none(), "offset {offset} of c{channel} twice: {number} and {other:?}");
            }
        }
        let witnessed = self.seen.iter().filter(|seen| seen.client == 0 && seen.channel == channel);
        for seen in witnessed.filter(|seen| seen.offset.is_some()) {
            let offset = seen.offset.expect("it has one");
            if took.contains_key(&offset) {
                continue;
            }
            let number = seen.payload.or_else(|| self.lost_deletion(seen.id.as_deref()));
            let number = number.unwrap_or_else(|| panic!("nobody did this: {seen:?}"));
            assert_eq!(self.ops[number].fate, Fate::Lost, "{seen:?}");
            took.insert(offset, (number, seen.id.clone().unwrap_or_default()));
        }
        for (offset, (number, id)) in took {
            assert_eq!(offset, self.streams[channel].offset + 1, "a gap in c{channel}");
            let meant = self.streams[channel].take(number, &self.ops[number], &id, self.now_ms);
            self.ops[number].meant = Some(meant);
        }
    }

    /// A deletion of that message whose answer was lost. Of several, it does not matter which.
    fn lost_deletion(&self, id: Option<&str>) -> Option<Number> {
        (self.start.op..self.ops.len()).find(|&number| {
            let op = &self.ops[number];
            let of_it = matches!(&op.deed, ChannelOp::Delete { target, .. } if Some(&**target) == id);
            of_it && op.fate == Fate::Lost && op.meant.is_none()
        })
    }

    /// A channel that was over may have become another.
    fn note_epoch(&mut self, channel: usize) {
        let page = self.ask_history(0, channel, json!({"limit": 1}));
        // Reading may have shown that it is over.
        let there = self.workers.node.channel(APP, Some(&name(channel))).is_some();
        let epoch = page["epoch"].as_str().filter(|_| there).map(str::to_owned);
        let stream = &mut self.streams[channel];
        if stream.epoch.is_some() && stream.epoch != epoch {
            assert!(self.start.channels[channel].2, "c{channel} is another");
            stream.vanish();
        }
        stream.epoch = epoch;
    }

    /// The channel is where the model is. What was forgotten for its bytes is learned.
    fn check_channel(&mut self, channel: usize) {
        let page = self.ask_history(0, channel, json!({"limit": 1}));
        let members = self.members(channel);
        assert_eq!(page["offset"], self.stream(channel).offset, "c{channel}");
        let there = self.workers.node.channel(APP, Some(&name(channel)));
        assert_eq!(there.map_or(0, |channel| channel.members()), members, "c{channel}");
        if self.style.bounded_by_bytes {
            let remembered = self.walk(None, channel, true, 1000);
            let oldest = remembered.first().map(|&(offset, ..)| offset);
            self.streams[channel].learn_oldest(oldest);
        }
    }

    /// An operation was answered as it should be.
    fn check_fate(&self, op: &Op) {
        let stream = self.stream(op.channel);
        if op.fate == Fate::Refused("overloaded".into()) {
            assert!(self.style.mailbox_depth < 1 << 20, "there is room: {op:?}");
            return;
        }
        let (ChannelOp::Edit { target, .. } | ChannelOp::Delete { target, .. }) = &op.deed else {
            return self.check_sent(op, stream);
        };
        let may = stream.may_change(target, &op.by, self.style.sender_edits);
        match &op.fate {
            Fate::Done { .. } => assert!(may, "nobody may change another's message: {op:?}"),
            Fate::Refused(code) if code == "edit_not_allowed" => assert!(!may, "it may: {op:?}"),
            Fate::Refused(code) => {
                assert_eq!(code, "unknown_message");
                assert!(!stream.can_change(target), "it is there: {op:?}");
            }
            Fate::Lost if matches!(op.deed, ChannelOp::Delete { .. }) => {}
            Fate::Lost => assert!(may || op.meant.is_none(), "nobody may change another's message: {op:?}"),
            Fate::Open => panic!("no answer to {op:?}"),
        }
    }

    fn check_sent(&self, op: &Op, stream: &Stream) {
        let ChannelOp::Send { audience, history, .. } = &op.deed else { return };
        let numbered = match stream.limits.is_on() {
            true => *history && audience.session.is_none(),
            false => *audience == Default::default(),
        };
        match &op.fate {
            Fate::Done { offset, .. } => assert_eq!(offset.is_some(), numbered, "{op:?}"),
            Fate::Lost => {}
            other => panic!("{other:?}: {op:?}"),
        }
    }

    /// Who came back recovered if, and only if, everything since then is remembered. While other things
    /// happened, the bounds are what was forgotten before and what is forgotten now.
    fn check_return(&self, back: &Return) {
        let Return { channel, since, recovered, .. } = back;
        let stream = self.stream(*channel);
        let (epoch, forgotten, _) = &self.start.channels[*channel];
        let same = back.epoch == since.epoch;
        let lost = !same || epoch.as_ref() == Some(&since.epoch) && since.offset < *forgotten;
        assert!(!(lost && *recovered), "it cannot be complete: {back:?}, forgotten {forgotten}");
        let fits = self.style.outbound_bytes > 1 << 20;
        if same && fits && stream.limits.is_on() && since.offset >= stream.maybe_forgotten {
            assert!(recovered, "everything is remembered: {back:?}, forgotten {}", stream.maybe_forgotten);
        }
    }

    /// What was received is what it says, and was for whom it reached.
    fn check_seen(&self, seen: &Seen) {
        let stream = self.stream(seen.channel);
        let Some(offset) = seen.offset else { return self.check_unnumbered(seen) };
        let event = stream.log.get(&offset).unwrap_or_else(|| panic!("there is no such offset: {seen:?}"));
        let &Event { op, of, kind } = event;
        let message = &stream.messages[&of];
        let lost = message.is_lost_by(offset, Some(seen.session).filter(|_| !seen.later), seen.user);
        let kind = if lost { "message:delete" } else { kind };
        assert_eq!(seen.kind, kind, "{seen:?} of {message:?}");
        let id = stream.limits.is_on().then_some(&message.id);
        assert_eq!(seen.id.as_ref(), id, "{seen:?}");
        let as_now = seen.later && kind == "e";
        let said = match seen.payload {
            Some(payload) if as_now => payload,
            None if kind == "message:delete" => op,
            payload => {
                assert_eq!(payload, Some(op), "{seen:?}");
                op
            }
        };
        assert_eq!(seen.edited, said != message.sent, "{seen:?}");
        let by = &self.ops[said];
        assert!(
            said == message.sent
                || matches!(&by.deed, ChannelOp::Edit { target, .. } | ChannelOp::Delete { target, .. } if *target == message.id),
            "this message never said so: {seen:?}"
        );
        let meant = by.meant.as_ref().expect("it took place");
        let admitted = match seen.later {
            true => meant.admits(seen.user),
            false => meant.admits_session(seen.session, seen.user),
        };
        assert_ne!(admitted, lost, "it was for {meant:?}: {seen:?}");
        assert!(seen.later || !by.is_unechoed(seen.session), "no echo was wanted: {seen:?}");
    }

    fn check_unnumbered(&self, seen: &Seen) {
        assert!(seen.kind == "e" && seen.id.is_none() && !seen.later, "{seen:?}");
        let op = &self.ops[seen.payload.expect("a payload")];
        let ChannelOp::Send { audience, .. } = &op.deed else { panic!("{op:?}: {seen:?}") };
        assert!(matches!(op.fate, Fate::Lost | Fate::Done { offset: None, .. }), "{op:?}: {seen:?}");
        assert_eq!(op.channel, seen.channel);
        assert!(audience.admits_session(seen.session, seen.user), "it was for {audience:?}: {seen:?}");
        assert!(!op.is_unechoed(seen.session), "no echo was wanted: {seen:?}");
    }

    /// A client knows of each channel what there is to know since it first came.
    fn check_views(&mut self, client: usize) {
        for channel in 0..self.channels() {
            let Some(mut view) = self.clients[client].views[channel].take() else { continue };
            let fresh = std::mem::take(&mut view.fresh);
            if self.stream(channel).epoch.as_ref() == Some(&view.position.epoch) {
                fresh.iter().for_each(|seen| self.fold(&mut view, seen));
                self.fold_own(client, channel, &mut view);
                if view.member {
                    self.check_view(client, channel, &view);
                }
                if view.stayed {
                    self.check_heard(client, channel, &view);
                }
            }
            view.unnumbered.clear();
            view.stayed = view.member;
            self.clients[client].views[channel] = Some(view);
        }
    }

    fn fold(&self, view: &mut View, seen: &Seen) {
        let event = &self.stream(seen.channel).log[&seen.offset.expect("it has one")];
        view.messages.insert(event.of, seen.payload.map_or(Known::Deleted, Known::Says));
    }

    /// What a client sent without echo it knows by the answer.
    fn fold_own(&self, client: usize, channel: usize, view: &mut View) {
        for number in self.start.op..self.ops.len() {
            let op = &self.ops[number];
            let own = op.by.as_ref().is_some_and(|by| by.client == client && op.is_unechoed(by.session));
            if let Fate::Done { offset: Some(offset), .. } = op.fate
                && own
                && op.channel == channel
                && offset > view.from
            {
                view.messages.entry(offset).or_insert(Known::Says(number));
            }
        }
    }

    fn check_view(&self, client: usize, channel: usize, view: &View) {
        let stream = self.stream(channel);
        assert!(view.position.offset <= stream.offset);
        let user = self.clients[client].user;
        for (offset, message) in stream.messages.range(view.from + 1..) {
            let op = &self.ops[message.sent];
            let unechoed = op.by.as_ref().is_some_and(|by| by.client == client && op.is_unechoed(by.session));
            let gone = message.deleted || !message.audience.admits(user);
            // The answer to it was lost; or its sender, who never had its offset, was away when it was
            // deleted, or it was never for its sender.
            let excused = unechoed && (op.fate == Fate::Lost || gone);
            if excused || message.was_for_one() {
                continue;
            }
            let known = view.messages.get(offset).copied();
            let right = match gone {
                true => matches!(known, None | Some(Known::Deleted)),
                false => known == Some(Known::Says(message.now)),
            };
            assert!(
                right,
                "client {client} knows {known:?} of {offset} in c{channel}: {message:?}\n{view:?}"
            );
        }
    }

    /// Who was there all the time has received what takes no offset.
    fn check_heard(&self, client: usize, channel: usize, view: &View) {
        let session = self.clients[client].session.as_ref().expect("it stayed").number;
        for number in self.start.op..self.ops.len() {
            let op = &self.ops[number];
            if let (Fate::Done { offset: None, .. }, ChannelOp::Send { audience, .. }) = (&op.fate, &op.deed)
                && op.channel == channel
                && audience.admits_session(session, self.clients[client].user)
                && !op.is_unechoed(session)
            {
                assert!(
                    view.unnumbered.contains(&number),
                    "client {client} did not receive {number}: {op:?}"
                );
            }
        }
    }

    /// Pages show what is remembered, to the back end and to a client.
    fn check_pages(&mut self, channel: usize) {
        let connected: Vec<usize> =
            self.clients.iter().filter(|c| c.session.is_some()).map(|c| c.number).collect();
        let client = *self.random.pick(&connected);
        for reader in [None, Some(client)] {
            let (forwards, limit) = (self.random.chance(50), 1 + self.random.below(5));
            let listed = self.walk(reader, channel, forwards, limit);
            let reader = reader.map(|client| self.clients[client].user);
            let visible = self.stream(channel).visible(reader);
            let mut expected: Vec<Listed> =
                visible.iter().map(|(offset, m)| (*offset, m.now, m.now != m.sent)).collect();
            if !forwards {
                expected.reverse();
            }
            assert_eq!(listed, expected, "c{channel} to {reader:?}");
        }
    }

    /// Everything that a client, or the back end, is shown of a channel, page by page.
    fn walk(&mut self, client: Option<usize>, channel: usize, forwards: bool, limit: usize) -> Vec<Listed> {
        let mut listed = Vec::new();
        let mut from = forwards.then_some(0);
        loop {
            let (page, next) = match client {
                Some(client) => self.client_page(client, channel, forwards, limit, from),
                None => self.back_end_page(channel, forwards, limit, from),
            };
            assert!(page.len() <= limit);
            listed.extend(page);
            if next.is_none() {
                return listed;
            }
            assert_ne!(next, from, "a page that goes nowhere");
            from = next;
        }
    }

    fn client_page(
        &mut self,
        client: usize,
        channel: usize,
        forwards: bool,
        limit: usize,
        from: Option<u64>,
    ) -> (Vec<Listed>, Option<u64>) {
        let mut members = json!({"limit": limit});
        if let Some(from) = from {
            members[if forwards { "after" } else { "before" }] = json!(from);
        }
        let page = self.ask_history(client, channel, members);
        let messages = page["messages"].as_array().expect("a list");
        let listed = |message: &Value| {
            let payload = message["message"]["n"].as_u64().expect("a number") as Number;
            let edited = message.get("edited_ms").is_some();
            (message["offset"].as_u64().expect("a number"), payload, edited)
        };
        (messages.iter().map(listed).collect(), page["next"].as_u64())
    }

    fn back_end_page(
        &mut self,
        channel: usize,
        forwards: bool,
        limit: usize,
        from: Option<u64>,
    ) -> (Vec<Listed>, Option<u64>) {
        let from = match (forwards, from) {
            (true, from) => PageStart::After(from.unwrap_or(0)),
            (false, from) => PageStart::Before(from.unwrap_or(u64::MAX)),
        };
        let worker = self.random.below(self.workers.engines.len());
        let command = BackEndCommand::History { channel: &name(channel), from, limit };
        let answer = self.workers.engines[worker].request(APP, command, 0);
        let Some(Ok(Outcome::History { page, .. })) = answer else { panic!("{answer:?}") };
        let listed = page.messages.iter().map(|message| {
            let message = message.view();
            let Payload::Json(payload) = message.payload() else { panic!("payloads are JSON") };
            let payload: Value = serde_json::from_str(payload).expect("it is JSON");
            let payload = payload["n"].as_u64().expect("a number") as Number;
            (message.offset.expect("it has one"), payload, message.edited_ms.is_some())
        });
        (listed.collect(), page.next)
    }

    /// The answer to a client's `history`.
    fn ask_history(&mut self, client: usize, channel: usize, members: Value) -> Value {
        let mut command = json!({"id": 1, "type": "history", "channel": name(channel)});
        command.as_object_mut().expect("an object").extend(members.as_object().expect("an object").clone());
        let session = self.clients[client].session.as_ref().expect("it is connected").number;
        self.workers.command(session, &command);
        self.workers.run_until_idle();
        let mut frames = self.workers.received(session);
        frames.retain(|frame| frame.get("event").is_none());
        assert_eq!(frames.len(), 1, "the answer: {frames:?}");
        frames[0]["ok"].take()
    }

    /// Somebody comes back while nothing else happens: exactly what the model says is received.
    fn probe(&mut self, channel: usize) {
        let Some(epoch) = self.stream(channel).epoch.clone() else { return };
        let stream = self.stream(channel);
        let (forgotten, end) = (stream.forgotten, stream.offset);
        let offset = match self.random.below(3) {
            0 => (forgotten + self.random.next() % 3).saturating_sub(1),
            1 => self.random.next() % (end + 2),
            _ => forgotten + self.random.next() % (end + 2 - forgotten),
        };
        let user = self.random.chance(75).then(|| *self.random.pick(&USERS));
        let worker = self.random.below(self.workers.engines.len());
        let session = self.workers.open_as(worker, user);
        let since = json!({"epoch": epoch, "offset": offset});
        let join = json!({"id": 1, "type": "join", "channel": name(channel), "since": since});
        self.workers.command(session, &join);
        self.workers.run_until_idle();
        let frames = self.workers.received(session);
        self.workers.close(session);
        self.workers.run_until_idle();
        self.check_probe(channel, user, Position { epoch, offset }, &frames[1..]);
    }

    fn check_probe(&self, channel: usize, user: Option<&str>, since: Position, frames: &[Value]) {
        let stream = self.stream(channel);
        let ok = &frames[0]["ok"];
        assert_eq!((&ok["epoch"], &ok["offset"]), (&json!(since.epoch), &json!(stream.offset)), "{ok}");
        let recovered = ok["recovered"].as_bool().expect("it came back");
        let missed = ok["missed"].as_u64().expect("a number") as usize;
        let context = || format!("c{channel} to {user:?} since {since:?}: {frames:?}");
        let publications = &frames[1..=missed];
        let rest_is_live = frames[1 + missed..].iter().all(|frame| frame["offset"].is_null());
        assert!(rest_is_live, "{}", context());
        let expected = stream.missed(user, since.offset);
        let bytes: usize = publications.iter().map(|frame| frame.to_string().len()).sum();
        let half = self.style.outbound_bytes / 2;
        if !recovered {
            let known = (stream.maybe_forgotten..=stream.offset).contains(&since.offset);
            let fits = expected.len() * (AROUND + 400) <= half;
            assert!(missed == 0 && !(known && fits && stream.limits.is_on()), "{}", context());
            return;
        }
        assert!((stream.forgotten..=stream.offset).contains(&since.offset), "{}", context());
        assert!(bytes <= half, "{bytes}: {}", context());
        if since.offset >= stream.maybe_forgotten {
            let got: Vec<Expected> = publications.iter().map(|frame| self.expected(frame)).collect();
            assert_eq!(got, expected, "{}", context());
        }
    }

    fn expected(&self, frame: &Value) -> Expected {
        let kinds = ["e", "message:edit", "message:delete"];
        let kind = kinds.into_iter().find(|&kind| frame["event"] == kind);
        Expected {
            offset: frame["offset"].as_u64().expect("a number"),
            kind: kind.unwrap_or_else(|| panic!("{frame}")),
            payload: frame["message"]["n"].as_u64().map(|n| n as Number),
        }
    }

    /// Everybody goes, and after some time nothing is remembered.
    pub(crate) fn finish(&mut self) {
        for engine in &self.workers.engines {
            self.totals.delegated += engine.counters().delegated;
            self.totals.forgotten += engine.counters().history_forgotten;
            self.totals.overloaded += engine.counters().overloaded;
        }
        for client in 0..self.clients.len() {
            if let Some(session) = &self.clients[client].session {
                self.workers.close(session.number);
                self.clients[client].drop_connection();
            }
        }
        self.quiesce();
        self.now_ms += 3_700_000;
        for _ in 0..35 {
            self.now_ms += 1000;
            self.quiesce();
        }
        for channel in 0..self.channels() {
            let there = self.workers.node.channel(APP, Some(&name(channel)));
            let what = there.map(|channel| (channel.members(), channel.remembered(), channel.has_history()));
            assert!(what.is_none(), "c{channel} is still there: {what:?}");
        }
        assert_eq!(self.workers.node.remembered(APP), 0, "all is forgotten");
    }
}

fn name(channel: usize) -> String {
    format!("c{channel}")
}
