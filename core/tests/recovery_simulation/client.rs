//! A client that comes back: what it asks for, what it receives, and what it knows of each channel.

use std::collections::{BTreeMap, VecDeque};

use serde_json::Value;

use super::model::Number;

/// A command that was sent and not yet answered.
#[derive(Debug)]
pub(crate) enum Asked {
    /// `early`: what came before the answer, which is right for who knows nothing yet.
    Join {
        channel: usize,
        since: Option<Position>,
        early: Vec<Value>,
    },
    Leave {
        channel: usize,
    },
    /// An operation.
    ChannelOp(Number),
    History {
        channel: usize,
    },
}

/// A place in a channel's stream.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Position {
    pub(crate) epoch: String,
    pub(crate) offset: u64,
}

/// A publication, or an entry of a page, that somebody received.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) client: usize,
    pub(crate) session: usize,
    pub(crate) user: Option<&'static str>,
    pub(crate) channel: usize,
    pub(crate) kind: String,
    pub(crate) offset: Option<u64>,
    pub(crate) id: Option<String>,
    pub(crate) payload: Option<Number>,
    pub(crate) edited: bool,
    /// Recovered, or of a page: not by one's being there.
    pub(crate) later: bool,
}

/// How the return of a session was answered.
#[derive(Debug)]
pub(crate) struct Return {
    pub(crate) channel: usize,
    pub(crate) since: Position,
    /// The epoch that the answer tells.
    pub(crate) epoch: String,
    pub(crate) recovered: bool,
}

/// What a client knows of a message.
#[derive(Copy, Clone, PartialEq, Debug)]
pub(crate) enum Known {
    Says(Number),
    Deleted,
}

/// What a client knows of a channel since it first joined, or since it last could not recover.
#[derive(Debug)]
pub(crate) struct View {
    /// Where it began.
    pub(crate) from: u64,
    /// The last that is known.
    pub(crate) position: Position,
    pub(crate) member: bool,
    /// By the offset of the message, up to the last time everything was at rest.
    pub(crate) messages: BTreeMap<u64, Known>,
    /// What came since then.
    pub(crate) fresh: Vec<Seen>,
    /// Payloads of messages without offset that came since then.
    pub(crate) unnumbered: Vec<Number>,
    /// It was a member all the time since then.
    pub(crate) stayed: bool,
}

impl View {
    fn new(position: Position) -> Self {
        Self {
            from: position.offset,
            position,
            member: true,
            messages: BTreeMap::new(),
            fresh: Vec::new(),
            unnumbered: Vec::new(),
            stayed: false,
        }
    }
}

/// A connection.
pub(crate) struct Session {
    /// Its number in the harness.
    pub(crate) number: usize,
    pub(crate) paused: bool,
    pub(crate) asked: VecDeque<Asked>,
    /// What has to come next, if something is being recovered: the channel, how many, and the position after
    /// that.
    recovering: Option<(usize, u64, u64)>,
}

impl Session {
    /// Whether it waits to become, or not to be, a member.
    pub(crate) fn is_moving(&self, channel: usize) -> bool {
        self.asked.iter().any(|asked| match asked {
            Asked::Join { channel: other, .. } | Asked::Leave { channel: other } => *other == channel,
            _ => false,
        })
    }
}

/// What a client tells the world when it reads.
pub(crate) enum News {
    Seen(Seen),
    Returned(Return),
    /// The answer to an operation.
    Answer(Number, Result<(String, Option<u64>), String>),
}

/// The client.
pub(crate) struct Client {
    pub(crate) number: usize,
    pub(crate) user: Option<&'static str>,
    pub(crate) session: Option<Session>,
    pub(crate) views: Vec<Option<View>>,
}

impl Client {
    pub(crate) fn new(number: usize, user: Option<&'static str>, channels: usize) -> Self {
        Self { number, user, session: None, views: (0..channels).map(|_| None).collect() }
    }

    pub(crate) fn connect(&mut self, session: usize) {
        let asked = VecDeque::new();
        self.session = Some(Session { number: session, paused: false, asked, recovering: None });
    }

    /// The connection is gone. Returns the operations that nobody will hear of.
    pub(crate) fn drop_connection(&mut self) -> Vec<Number> {
        let session = self.session.take().expect("it is connected");
        for view in self.views.iter_mut().flatten() {
            view.member = false;
            view.stayed = false;
        }
        session
            .asked
            .iter()
            .filter_map(|asked| if let Asked::ChannelOp(op) = asked { Some(*op) } else { None })
            .collect()
    }

    pub(crate) fn is_member(&self, channel: usize) -> bool {
        self.views[channel].as_ref().is_some_and(|view| view.member)
    }

    /// Reads one frame.
    pub(crate) fn read(&mut self, frame: Value, news: &mut Vec<News>) {
        assert!(frame.get("gap").is_none(), "nobody is slow");
        if frame.get("welcome").is_some() {
        } else if frame.get("event").is_some() {
            self.publication(frame, news);
        } else {
            self.answer(frame, news);
        }
    }

    fn session(&mut self) -> &mut Session {
        self.session.as_mut().expect("it is connected")
    }

    fn publication(&mut self, frame: Value, news: &mut Vec<News>) {
        let kind = frame["event"].as_str().expect("a name");
        let channel = channel_of(&frame["channel"]);
        let recovering = self.session().recovering.take();
        let end = recovering.map(|(of, left, end)| {
            assert_eq!(of, channel, "what was missed comes first: {frame}");
            assert!(!kind.starts_with("channel:"), "what was missed comes first: {frame}");
            (left, end)
        });
        if !self.is_member(channel) {
            let first = |asked: &mut Asked| match asked {
                Asked::Join { channel: of, since: None, early } if *of == channel => {
                    early.push(frame.clone());
                    true
                }
                _ => false,
            };
            let client = self.number;
            assert!(self.session().asked.iter_mut().any(first), "client {client} is no member: {frame}");
            return;
        }
        if kind.starts_with("channel:") {
            return;
        }
        let seen = self.seen(channel, &frame, end.is_some());
        news.push(News::Seen(seen.clone()));
        let view = self.views[channel].as_mut().expect("it is a member");
        match seen.offset {
            Some(offset) => {
                assert!(offset > view.position.offset, "after {}: {frame}", view.position.offset);
                assert!(end.is_none_or(|(_, end)| offset <= end), "behind the position: {frame}");
                view.position.offset = offset;
                view.fresh.push(seen);
            }
            None => {
                assert!(end.is_none(), "nobody recovers what has no offset");
                let payload = seen.payload.expect("a payload");
                assert!(!view.unnumbered.contains(&payload), "twice: {frame}");
                view.unnumbered.push(payload);
            }
        }
        if let Some((left, end)) = end {
            self.recover(channel, left - 1, end);
        }
    }

    /// So many are still to come. Until they have, they are not part of what is known.
    fn recover(&mut self, channel: usize, left: u64, end: u64) {
        if left > 0 {
            self.session().recovering = Some((channel, left, end));
            return;
        }
        let view = self.views[channel].as_mut().expect("it is a member");
        view.position.offset = end;
    }

    fn seen(&mut self, channel: usize, frame: &Value, later: bool) -> Seen {
        Seen {
            client: self.number,
            session: self.session().number,
            user: self.user,
            channel,
            kind: frame["event"].as_str().expect("a name").into(),
            offset: frame["offset"].as_u64(),
            id: frame["id"].as_str().map(Into::into),
            payload: frame["message"]["n"].as_u64().map(|n| n as Number),
            edited: frame.get("edited_ms").is_some(),
            later,
        }
    }

    fn answer(&mut self, frame: Value, news: &mut Vec<News>) {
        let client = self.number;
        let session = self.session();
        assert!(session.recovering.is_none(), "what was missed comes first: {frame}");
        let asked =
            session.asked.pop_front().unwrap_or_else(|| panic!("client {client} asked nothing: {frame}"));
        let ok = &frame["ok"];
        match asked {
            Asked::Join { channel, since, early } => self.joined(channel, since, early, ok, news),
            Asked::Leave { channel } => {
                assert_eq!(ok["left"], self.is_member(channel), "{frame}");
                if let Some(view) = &mut self.views[channel] {
                    view.member = false;
                    view.stayed = false;
                }
            }
            Asked::ChannelOp(op) => {
                let code = || frame["error"]["code"].as_str().expect("a code").to_owned();
                let id = ok["message_id"].as_str().ok_or_else(code);
                news.push(News::Answer(op, id.map(|id| (id.to_owned(), ok["offset"].as_u64()))));
            }
            Asked::History { channel } => {
                for message in ok["messages"].as_array().expect("a list") {
                    let seen = self.seen(channel, message, true);
                    news.push(News::Seen(seen));
                }
            }
        }
    }

    fn joined(
        &mut self,
        channel: usize,
        since: Option<Position>,
        early: Vec<Value>,
        ok: &Value,
        news: &mut Vec<News>,
    ) {
        assert_eq!(ok["joined"], !self.is_member(channel), "{ok}");
        if ok["joined"] == false {
            assert!(ok.get("recovered").is_none(), "for a member, since means nothing: {ok}");
            return;
        }
        let epoch = ok["epoch"].as_str().expect("an epoch").to_owned();
        let offset = ok["offset"].as_u64().expect("an offset");
        let position = Position { epoch: epoch.clone(), offset };
        let Some(since) = since else {
            assert!(ok.get("recovered").is_none(), "{ok}");
            self.views[channel] = Some(View::new(position));
            early.into_iter().for_each(|frame| self.publication(frame, news));
            return;
        };
        let recovered = ok["recovered"].as_bool().expect("it came back");
        let missed = ok["missed"].as_u64().expect("a number");
        if recovered {
            assert_eq!(epoch, since.epoch, "another stream");
            assert!(offset >= since.offset && missed <= offset - since.offset, "{since:?}: {ok}");
            let view = self.views[channel].as_mut().expect("it was here");
            view.member = true;
            self.recover(channel, missed, offset);
        } else {
            assert_eq!(missed, 0, "{ok}");
            self.views[channel] = Some(View::new(position));
        }
        news.push(News::Returned(Return { channel, since, epoch, recovered }));
    }
}

/// Channels are c0, c1, …
pub(crate) fn channel_of(name: &Value) -> usize {
    name.as_str().and_then(|name| name[1..].parse().ok()).expect("one of the channels")
}
