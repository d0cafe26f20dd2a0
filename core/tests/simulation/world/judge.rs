//! The end of a simulation: the world comes to rest, and the checks run.

use std::collections::{BTreeMap, BTreeSet};

use fanfare_core::{
    command::{BackEndCommand, Cursor, Outcome},
    engine::Engine,
    error::ReplyError,
    id::{AppId, WorkerId},
};

use super::{Mode, POISON, World};
use crate::checker::Checker;

impl World {
    /// Brings the run to its end and judges it.
    pub(crate) fn finish(&mut self) {
        self.quiesce();
        self.check_answered();
        self.check_members();
        self.check_channels();
        if self.mode == Mode::Exact {
            (0..self.clients.len()).for_each(|client| self.check_against_model(client));
        }
        if let Err(violation) = self.take_checker().check() {
            panic!("{violation}");
        }
        self.close_all();
        self.quiesce();
        self.check_gone();
    }

    /// Every command and request has its answer.
    fn check_answered(&self) {
        assert!(self.requests.is_empty(), "every request is answered");
        for (client, of) in self.clients.iter().enumerate().filter(|(_, of)| of.open) {
            assert!(!of.paused, "client {client} waits for ever");
            assert!(of.asked.is_empty(), "client {client}: no answer to {:?}", of.asked[0].command);
        }
    }

    /// Takes the checker with everything received so far. Later deliveries are not checked.
    fn take_checker(&mut self) -> Checker {
        for engine in &self.engines {
            let counters = engine.counters();
            self.delegated += counters.delegated;
            self.overloaded += counters.overloaded;
            self.deliveries += counters.deliveries;
            self.missed += counters.missed;
        }
        self.collect_stays();
        self.judged = true;
        std::mem::take(&mut self.checker)
    }

    /// Of a part: when all parts have come to rest, what is to be judged of this one.
    pub(crate) fn take_part(&mut self) -> Checker {
        let clients: Vec<usize> = self.open().collect();
        clients.into_iter().for_each(|client| self.deliver(client));
        self.check_answered();
        self.take_checker()
    }

    fn collect_stays(&mut self) {
        for of in self.clients.iter_mut().filter(|of| of.open && !of.lossy) {
            let stays = std::mem::take(&mut of.stays).into_values();
            for mut stay in stays.chain([std::mem::take(&mut of.broadcasts)]) {
                stay.to_the_end = true;
                // A stay that was claimed on opening is in no stream by name.
                if of.observer {
                    let keys = stay.seen.iter().map(|seen| seen.key).collect();
                    self.checker.references.insert(stay.stream.clone(), keys);
                }
                self.checker.stays.push(stay);
            }
        }
        self.checker.stays.retain(|stay| !stay.stream.is_empty());
    }

    /// The members of each channel, according to what the clients were told.
    fn memberships(&self) -> BTreeMap<(u32, usize), BTreeSet<usize>> {
        let mut all: BTreeMap<(u32, usize), BTreeSet<usize>> = BTreeMap::new();
        for client in self.open() {
            let of = &self.clients[client];
            for &channel in of.stays.keys() {
                all.entry((of.app, channel)).or_default().insert(client);
            }
        }
        all
    }

    /// Pages through every channel's members and compares.
    fn check_members(&mut self) {
        let memberships = self.memberships();
        if self.mode == Mode::Exact {
            let model: BTreeMap<(u32, usize), BTreeSet<usize>> =
                self.model.members().map(|(n, m)| (n, m.iter().map(|&p| p as usize).collect())).collect();
            assert_eq!(memberships, model);
        }
        for app in 0..self.rules.len() as u32 {
            for channel in 0..self.channels {
                let there = memberships.get(&(app, channel)).cloned().unwrap_or_default();
                let listed = self.list_members(app, channel, there.len());
                assert_eq!(listed, there, "members of c{channel}");
            }
        }
    }

    fn list_members(&mut self, app: u32, channel: usize, total: usize) -> BTreeSet<usize> {
        let limit = 1 + self.random.below(4);
        let asker = self.random.below(self.engines.len());
        let mut listed = BTreeSet::new();
        let mut after: Option<Cursor> = None;
        loop {
            let name = format!("c{channel}");
            let id = AppId(app as u16);
            let command = BackEndCommand::Members { channel: &name, limit, after };
            let page = match self.engines[asker].request(id, command, 0) {
                Some(page) => page,
                None => self.await_answer(asker),
            };
            let Ok(Outcome::Members(page)) = page else { panic!("{page:?}") };
            assert_eq!(page.total, total);
            for member in &page.members {
                let (client, of) = self.directory.read().expect(POISON)[&member.id.to_string()];
                let profile = self.clients[client as usize].profile;
                let said = member.profile.as_deref().map_or(0, |text| text.parse().expect("a number"));
                assert_eq!((of, said), (app, profile));
                assert!(member.user.is_none() || self.clients[client as usize].user);
                assert!(listed.insert(client as usize), "nobody is listed twice");
            }
            assert!(page.next.is_none() || page.members.len() == limit);
            after = page.next;
            if after.is_none() {
                return listed;
            }
        }
    }

    fn await_answer(&mut self, worker: usize) -> Result<Outcome, ReplyError> {
        for _ in 0..100 {
            self.engines.iter_mut().for_each(Engine::on_mail);
            if let Some((_, answer)) = self.engines[worker].take_answers().pop() {
                return answer;
            }
        }
        panic!("a query is lost");
    }

    /// Pages through every app's channels and compares.
    fn check_channels(&mut self) {
        let memberships = self.memberships();
        assert_eq!(self.node.channels(), memberships.len());
        for app in 0..self.rules.len() as u32 {
            let mut listed = BTreeMap::new();
            let mut after = None;
            loop {
                let limit = 1 + self.random.below(3);
                let command = BackEndCommand::Channels { prefix: "c", limit, after: after.as_deref() };
                let page = self.engines[0].request(AppId(app as u16), command, 0);
                let Some(Ok(Outcome::Channels(page))) = page else { panic!("{page:?}") };
                assert!(page.channels.len() <= limit);
                for (name, members) in page.channels {
                    let channel: usize = name[1..].parse().expect("channels are c0, c1, …");
                    assert!(listed.insert((app, channel), members).is_none());
                }
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            let of_app = memberships.iter().filter(|((of, _), _)| *of == app);
            let expected: BTreeMap<(u32, usize), usize> = of_app.map(|(&n, m)| (n, m.len())).collect();
            assert_eq!(listed, expected);
            let open = self.open().filter(|&client| self.clients[client].app == app).count();
            assert_eq!(self.node.sessions(AppId(app as u16)), open);
        }
    }

    /// Checks that a client received of each stream what the model says, except for the losses that it was
    /// told.
    fn check_against_model(&self, client: usize) {
        let of = &self.clients[client];
        for channel in (0..self.channels).map(Some).chain([None]) {
            let seen = of.seen.get(&channel).map_or(&[][..], Vec::as_slice);
            let expected = self.model.expected.get(&(self.peer(client), channel));
            let mut expected = expected.cloned().unwrap_or_default();
            if of.is_agnost() {
                expected.iter_mut().for_each(|seen| seen.offset = None);
            }
            let expected = &expected[..];
            let missed = of.missed.get(&channel).copied().unwrap_or(0);
            let context = || format!("client {client}, {channel:?}\n seen {seen:?}\n expected {expected:?}");
            if !of.lossy {
                let there = if of.open { expected } else { &expected[..seen.len().min(expected.len())] };
                assert_eq!(seen, there, "{}", context());
                continue;
            }
            let mut rest = expected.iter();
            assert!(seen.iter().all(|one| rest.any(|other| other == one)), "{}", context());
            let told = seen.len() as u64 + missed;
            let sent = expected.len() as u64;
            assert!(if of.open { told == sent } else { told <= sent }, "missed {missed}: {}", context());
        }
    }

    /// Checks that nothing remains after every session has ended.
    pub(crate) fn check_gone(&self) {
        assert_eq!(self.node.channels(), 0, "every channel is reclaimed");
        assert!(self.engines.iter().all(|engine| engine.sessions() == 0));
        for worker in 0..self.node.workers() {
            assert!(self.node.mailbox(WorkerId(worker as u16)).is_empty());
        }
        for app in 0..self.rules.len() {
            assert_eq!(self.node.sessions(AppId(app as u16)), 0);
        }
    }
}
