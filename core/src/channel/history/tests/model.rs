//! A memory beside a plain model of it: one that keeps each message by itself.

use super::*;

/// A message as a plain model has it.
#[derive(Clone, Debug)]
struct Modelled {
    id: MessageId,
    at_ms: u64,
    offset: u64,
    /// The offset of the last that happened to it.
    last: u64,
    /// `None`: it was deleted.
    payload: Option<Vec<u8>>,
    binary: bool,
    edited: bool,
    only: Option<&'static str>,
}

impl Modelled {
    fn is_for(&self, reader: &Viewer) -> bool {
        match reader {
            Viewer::BackEnd => true,
            Viewer::User(user) => self.only.is_none_or(|only| user.as_deref() == Some(only)),
        }
    }

    fn assert_shown(&self, shown: &HistoryItem, kind: Kind) {
        let view = shown.view();
        assert_eq!((view.id, view.kind(), view.kept), (self.id, kind, true));
        let offset = if kind == Kind::Message { self.offset } else { self.last };
        assert_eq!((shown.offset(), view.offset), (offset, Some(offset)));
        let payload = self.payload.as_deref().unwrap_or(b"null");
        assert_eq!((view.payload().bytes(), view.payload().is_binary()), (payload, self.binary));
        assert_eq!(view.edited_ms.is_some(), self.edited);
        assert_eq!(view.event() == "event", kind != Kind::Delete);
    }
}

/// What a memory should be, without any economy.
#[derive(Default)]
struct Model {
    messages: VecDeque<Modelled>,
    horizon: u64,
}

impl Model {
    fn forget_oldest(&mut self) {
        let gone = self.messages.pop_front().expect("there is one");
        self.horizon = self.horizon.max(gone.last);
    }

    fn assert_is(&self, history: &History, since: u64) {
        let readers = [Viewer::BackEnd, Viewer::User(Some("luke".into())), NOBODY];
        for reader in &readers {
            let seen = |from: PageStart| {
                let meant = move |message: &&Modelled| message.payload.is_some() && message.is_for(reader);
                let seen = self.messages.iter().filter(meant);
                seen.filter(move |message| match from {
                    PageStart::After(offset) => message.offset > offset,
                    PageStart::Before(offset) => message.offset < offset,
                })
            };
            let after = history.page(PageStart::After(since), ALL, reader).messages;
            assert_eq!(after.len(), seen(PageStart::After(since)).count());
            for (message, shown) in seen(PageStart::After(since)).zip(&after) {
                message.assert_shown(shown, Kind::Message);
            }
            let before = history.page(PageStart::Before(since), ALL, reader).messages;
            let expected: Vec<u64> = seen(PageStart::Before(since)).map(|message| message.offset).collect();
            assert!(offsets(&before).iter().rev().eq(&expected));

            let missed = history.catch_up(since, ALL, reader);
            assert_eq!(missed.is_some(), since >= self.horizon);
            let Some(missed) = missed else { continue };
            let mut expected: Vec<(u64, Kind, &Modelled)> = Vec::new();
            for message in self.messages.iter().filter(|message| message.is_for(reader)) {
                match (message.offset > since, &message.payload) {
                    (true, Some(_)) => expected.push((message.offset, Kind::Message, message)),
                    (false, Some(_)) if message.last > since => {
                        expected.push((message.last, Kind::Edit, message));
                    }
                    (false, None) if message.last > since => {
                        expected.push((message.last, Kind::Delete, message));
                    }
                    _ => {}
                }
            }
            expected.sort_by_key(|&(offset, ..)| offset);
            assert_eq!(missed.len(), expected.len());
            for ((_, kind, message), shown) in expected.into_iter().zip(&missed) {
                message.assert_shown(shown, kind);
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Push { size: usize, binary: bool, only: Option<&'static str>, crowded: bool },
    Edit { which: prop::sample::Index, size: usize },
    Delete(prop::sample::Index),
    Wait(u64),
    Trim { parts: usize },
    SetLimits(HistoryLimits),
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![6 => 1..200usize, 2 => 200..2200usize, 1 => 2200..6000usize]
}

fn some_limits() -> impl Strategy<Value = HistoryLimits> {
    let bytes = prop_oneof![3 => Just(u32::MAX), 1 => Just(1024), 1 => 1024..20_000u32];
    let messages = prop_oneof![1..8u32, 1..60u32];
    (messages, bytes).prop_map(|(messages, bytes)| HistoryLimits { messages, bytes, age_ms: 1000 })
}

fn step() -> impl Strategy<Value = Step> {
    let only = prop_oneof![5 => Just(None), 1 => Just(Some("luke"))];
    let push = (size(), any::<bool>(), only, prop::bool::weighted(0.1));
    prop_oneof![
        20 => push.prop_map(|(size, binary, only, crowded)| Step::Push { size, binary, only, crowded }),
        3 => (any::<prop::sample::Index>(), size()).prop_map(|(which, size)| Step::Edit { which, size }),
        1 => any::<prop::sample::Index>().prop_map(Step::Delete),
        1 => (0..600u64).prop_map(Step::Wait),
        1 => (1..6usize).prop_map(|parts| Step::Trim { parts }),
        1 => some_limits().prop_map(Step::SetLimits),
    ]
}

/// A memory and its model, a step at a time.
struct Pair {
    history: History,
    model: Model,
    limits: HistoryLimits,
    ids: IdGenerator,
    offset: u64,
    now_ms: u64,
}

impl Pair {
    fn new(limits: HistoryLimits) -> Self {
        let (history, model) = (History::new(limits, 0), Model::default());
        Self { history, model, limits, ids: IdGenerator::new(3), offset: 0, now_ms: 1000 }
    }

    /// Whether something may have gone for the sake of bytes.
    fn step(&mut self, step: Step) -> bool {
        let mut bounded = self.limits.bytes != u32::MAX;
        match step {
            Step::Push { size, binary, only, crowded } => {
                bounded |= crowded;
                self.push(size, binary, only, crowded);
            }
            Step::Edit { which, size } => self.change(which, Some(size)),
            Step::Delete(which) => self.change(which, None),
            Step::Wait(ms) => {
                self.now_ms += ms;
                self.history.expire(self.now_ms);
                self.expire();
            }
            Step::Trim { parts } => {
                bounded = true;
                let bytes = self.history.bytes() / parts;
                self.history.trim(bytes);
                assert!(self.history.bytes() <= bytes.max(EMPTY_BYTES));
            }
            Step::SetLimits(limits) => {
                bounded |= limits.bytes != u32::MAX;
                self.limits = limits;
                self.history.set_limits(limits, self.now_ms);
                self.expire();
                self.bound();
            }
        }
        bounded
    }

    fn push(&mut self, size: usize, binary: bool, only: Option<&'static str>, crowded: bool) {
        self.offset += 1;
        let id = self.ids.message_id(self.now_ms);
        let payload = text(self.offset, size);
        let audience =
            Audience { only_users: only.map(|only| [Box::from(only)].into()), ..Audience::default() };
        let shown = if binary { Payload::Binary(payload.as_bytes()) } else { Payload::Json(&payload) };
        let publication = Publication {
            offset: Some(self.offset),
            audience: &audience,
            ..Publication::message(id, "event", shown)
        };
        let before = self.history.bytes();
        let may_cost = if crowded { before } else { usize::MAX };
        self.history.push(&Publication { kept: true, ..publication }, self.now_ms, |_| may_cost);
        assert!(self.history.bytes() <= may_cost);
        let payload = Some(payload.into_bytes());
        let (offset, last, at_ms) = (self.offset, self.offset, id.time_ms());
        self.expire();
        self.model.messages.push_back(Modelled {
            id,
            at_ms,
            offset,
            last,
            payload,
            binary,
            edited: false,
            only,
        });
        self.bound();
    }

    /// The message is JSON from then on.
    fn change(&mut self, which: prop::sample::Index, size: Option<usize>) {
        if self.model.messages.is_empty() {
            return;
        }
        let message = which.index(self.model.messages.len());
        let message = &mut self.model.messages[message];
        let old = self.history.find(message.id);
        assert_eq!(old.is_some(), message.payload.is_some());
        let Some(old) = old else { return };
        self.offset += 1;
        let payload = size.map(|size| text(self.offset, size));
        let change = old.changed(self.offset, payload.as_deref().map(Payload::Json), None, &[], self.now_ms);
        self.history.change(Arc::new(change));
        message.payload = payload.map(String::into_bytes);
        (message.last, message.binary, message.edited) = (self.offset, false, true);
    }

    fn expire(&mut self) {
        let oldest_ms = self.now_ms.saturating_sub(self.limits.age_ms.into());
        while self.model.messages.front().is_some_and(|message| message.at_ms < oldest_ms) {
            self.model.forget_oldest();
        }
    }

    fn bound(&mut self) {
        while self.model.messages.len() > self.limits.messages as usize {
            self.model.forget_oldest();
        }
    }

    /// What is there is what the model has, but for the oldest if `bounded`.
    fn check(&mut self, bounded: bool, since: u64) {
        let left = self.history.entries.len();
        assert!(left == self.model.messages.len() || bounded && left < self.model.messages.len());
        while self.model.messages.len() > left {
            self.model.forget_oldest();
        }
        self.model.assert_is(&self.history, since.min(self.offset));
        assert!(self.history.bytes() <= EMPTY_BYTES + self.limits.bytes as usize);
        assert_eq!(self.history.bytes(), counted(&self.history));
        self.history.texts.assert_sound();
    }
}

/// What a memory costs, counted anew.
fn counted(history: &History) -> usize {
    let shared = history.entries.iter().map(|entry| match &entry.content {
        Content::Shared(publication) => publication.bytes(),
        Content::Text { .. } => 0,
    });
    let entries = history.entries.capacity() * size_of::<Entry>();
    EMPTY_BYTES + entries + shared.sum::<usize>() + history.texts.bytes()
}

/// A text of its own for each offset.
fn text(offset: u64, size: usize) -> String {
    format!("{offset}:é").chars().cycle().take(size).collect()
}

proptest! {
    /// After any operations, a history holds the same messages as the plain model, and reports its true cost
    /// within its bound.
    #[test]
    fn a_memory_is_as_its_model(
        limits in some_limits(),
        steps in prop::collection::vec((step(), any::<prop::sample::Index>()), 1..200),
    ) {
        let mut pair = Pair::new(limits);
        for (step, since) in steps {
            let bounded = pair.step(step);
            let since = since.index(pair.offset as usize + 1) as u64;
            pair.check(bounded, since);
        }
    }
}
