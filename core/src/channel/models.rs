//! Models of channels that come into being and close while threads join and leave them: the lock and the
//! state are the shipped ones.

use std::sync::Arc;

use super::{Channel, ChannelMail, ChannelState, Delegated, Env, Interest, Left, Operation, Request};
use crate::{
    app::ChannelOptions,
    id::{AppId, SessionId, WorkerId},
    publication::{Body, OwnedPublication, UserState},
};

/// A worker, as far as a channel without history or users sees it.
struct Worker(WorkerId);

impl Env for Worker {
    fn worker(&self) -> WorkerId {
        self.0
    }

    fn now_ms(&self) -> u64 {
        1
    }

    fn is_mailbox_full(&self, _: WorkerId) -> bool {
        false
    }

    fn has_mail(&self) -> bool {
        false
    }

    fn post(&mut self, _: WorkerId, mail: ChannelMail) {
        assert!(
            matches!(mail, ChannelMail::Live { .. } | ChannelMail::Done { .. }),
            "nothing is published or refused"
        );
    }

    fn user_state(&self, _: &str) -> Option<Arc<UserState>> {
        None
    }

    fn user_notice(&mut self, _: Body<'_>, _: Option<SessionId>) -> Arc<OwnedPublication> {
        unreachable!("nobody is told of users")
    }

    fn is_over_budget(&self, _: usize) -> bool {
        false
    }

    fn account(&mut self, _: usize, _: usize) {
        unreachable!("there is no history")
    }

    fn count_evicted(&mut self, _: usize) {
        unreachable!("there is no history")
    }

    fn count_change(&mut self) {
        unreachable!("there is no history")
    }

    fn charge(&mut self, _: usize) {}

    fn resolve_options(&self, set: Option<ChannelOptions>) -> ChannelOptions {
        set.unwrap_or_default()
    }

    fn changed_options(&self) -> Option<ChannelOptions> {
        None
    }

    fn set_options(&mut self, _: Option<ChannelOptions>) -> Result<(), crate::error::ReplyError> {
        unreachable!("nobody sets options")
    }
}

/// Stands for the channel table with one name in it. The lock orders as the table's atomic accesses do.
#[derive(Default)]
struct Table {
    current: Option<Arc<Channel>>,
    lives: u64,
}

type Shared = loom::sync::Arc<loom::sync::Mutex<Table>>;

fn find_or_create(table: &Shared) -> Arc<Channel> {
    let mut table = table.lock().expect("no model panics while holding it");
    if let Some(channel) = &table.current {
        return channel.clone();
    }
    table.lives += 1;
    let channel =
        Arc::new(Channel::new(AppId(0), (0, table.lives), Some("room"), ChannelOptions::default(), 3));
    table.current = Some(channel.clone());
    channel
}

fn remove(table: &Shared, channel: &Arc<Channel>) {
    let mut table = table.lock().expect("no model panics while holding it");
    if table.current.as_ref().is_some_and(|current| Arc::ptr_eq(current, channel)) {
        table.current = None;
    }
}

/// As `Engine::submit` does it. Returns false if the channel is closed.
fn submit(table: &Shared, channel: &Arc<Channel>, worker: u16, interest: Interest) -> bool {
    let mut worker = Worker(WorkerId(worker));
    let mut entered = match channel.lock.try_enter() {
        Some(entered) => entered,
        None => {
            let operation = Operation {
                worker: worker.0,
                interest: Some(interest),
                publications: Vec::new(),
                request: None,
                presence: None,
                ticket: 0,
            };
            match channel.lock.delegate(operation) {
                Delegated::Entered(entered, _) => entered,
                Delegated::Left => return true,
                Delegated::Closed => return false,
            }
        }
    };
    let request =
        Request { worker: worker.0, interest: Some(interest), request: None, presence: None, ticket: None };
    let applied = entered.with(|state| state.apply(channel, request, &mut [], &mut worker));
    assert!(applied.is_ok(), "interest is not refused");
    let apply = |state: &mut ChannelState, operation| state.apply_delegated(channel, operation, &mut worker);
    match entered.leave(&mut usize::MAX.clone(), apply, ChannelState::is_deserted) {
        Left::Open => {}
        Left::Closed => remove(table, channel),
        Left::Unfinished(_) => unreachable!("the budget is without end"),
    }
    true
}

/// As `Engine::join` does it.
fn join(table: &Shared, worker: u16) -> Arc<Channel> {
    loop {
        let channel = find_or_create(table);
        if submit(table, &channel, worker, Interest::Gained) {
            return channel;
        }
        remove(table, &channel);
    }
}

fn leave(table: &Shared, channel: &Arc<Channel>, worker: u16) {
    assert!(submit(table, channel, worker, Interest::Lost), "a channel does not close under its member");
}

fn check(body: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(4);
    model.check(body);
}

/// One worker's member leaves, and a second one's joins and leaves, while a third one's joins to stay: it
/// ends up in the channel that the table shows, alone, and that channel is open.
#[test]
fn a_join_is_never_lost_to_a_channel_that_closes() {
    check(|| {
        let table = Shared::default();
        let first = join(&table, 0);
        let second = {
            let table = table.clone();
            loom::thread::spawn(move || {
                let channel = join(&table, 1);
                leave(&table, &channel, 1);
            })
        };
        let third = {
            let table = table.clone();
            loom::thread::spawn(move || join(&table, 2))
        };
        leave(&table, &first, 0);
        second.join().expect("no thread panics");
        let channel = third.join().expect("no thread panics");
        let current = find_or_create(&table);
        assert_eq!(current.epoch(), channel.epoch(), "the table shows the channel that has the member");
        let mut entered =
            channel.lock.try_enter().expect("a channel with a member is open, and nobody is inside");
        entered.with(|state| assert_eq!(state.interest().map(|worker| worker.0).collect::<Vec<_>>(), [2]));
        drop(entered);
    });
}

/// When everybody has left, nothing remains in the table.
#[test]
fn a_channel_that_everybody_left_is_gone() {
    check(|| {
        let table = Shared::default();
        let threads: Vec<_> = (0..2)
            .map(|worker| {
                let table = table.clone();
                loom::thread::spawn(move || {
                    let channel = join(&table, worker);
                    leave(&table, &channel, worker);
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("no thread panics");
        }
        assert!(table.lock().expect("no model panicked").current.is_none());
    });
}
