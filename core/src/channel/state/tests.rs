//! A channel alone, without engines: what it does with operations, and what it sends to workers.

use super::*;
use crate::{
    id::{AppId, IdGenerator, SessionId, SessionSlot},
    publication::{Audience, Kind, Payload},
};

/// A worker that records what the channel tells it.
struct Worker {
    id: WorkerId,
    options: ChannelOptions,
    /// What the node has for the channel's name.
    set: Option<ChannelOptions>,
    full: Option<WorkerId>,
    has_mail: bool,
    posted: Vec<(u16, ChannelMail)>,
    charged: usize,
    ids: IdGenerator,
}

impl Worker {
    fn new(options: ChannelOptions) -> Self {
        let (id, ids) = (WorkerId(0), IdGenerator::new(1));
        Self { id, options, set: None, full: None, has_mail: false, posted: Vec::new(), charged: 0, ids }
    }

    /// What was posted since the last call: to which worker, and the sequence number of a publication.
    fn take_publications(&mut self) -> Vec<(u16, u64, Kind)> {
        let publication = |(to, mail)| match mail {
            ChannelMail::Publication { sequence, publication } => {
                Some((to, sequence, publication.view().kind()))
            }
            _ => None,
        };
        self.posted.drain(..).filter_map(publication).collect()
    }
}

impl Env for Worker {
    fn worker(&self) -> WorkerId {
        self.id
    }

    fn now_ms(&self) -> u64 {
        1_000
    }

    fn is_mailbox_full(&self, worker: WorkerId) -> bool {
        self.full == Some(worker)
    }

    fn has_mail(&self) -> bool {
        self.has_mail
    }

    fn post(&mut self, to: WorkerId, mail: ChannelMail) {
        self.posted.push((to.0, mail));
    }

    fn user_state(&self, _: &str) -> Option<Arc<UserState>> {
        None
    }

    fn user_notice(&mut self, body: Body<'_>, _: Option<SessionId>) -> Arc<OwnedPublication> {
        let id = self.ids.message_id(1_000);
        Arc::new(Publication::new(id, body).into())
    }

    fn is_over_budget(&self, _: usize) -> bool {
        false
    }

    fn account(&mut self, _: usize, _: usize) {}

    fn count_evicted(&mut self, _: usize) {}

    fn count_change(&mut self) {}

    fn charge(&mut self, units: usize) {
        self.charged += units;
    }

    fn resolve_options(&self, set: Option<ChannelOptions>) -> ChannelOptions {
        set.unwrap_or(self.options)
    }

    fn changed_options(&self) -> Option<ChannelOptions> {
        self.set
    }

    fn set_options(&mut self, set: Option<ChannelOptions>) -> Result<(), ReplyError> {
        self.set = set;
        Ok(())
    }
}

const KEEPING: HistoryLimits = HistoryLimits { messages: 10, bytes: 1 << 20, age_ms: 1_000 };

fn channel(options: ChannelOptions) -> Channel {
    Channel::new(AppId(0), (0, 7), Some("room"), options, 3)
}

fn request(worker: u16) -> Request {
    Request { worker: WorkerId(worker), interest: None, request: None, presence: None, ticket: None }
}

fn apply(
    channel: &Channel,
    env: &mut Worker,
    request: Request,
    publications: &mut [Publication<'_>],
) -> Result<Applied, ReplyError> {
    let mut entered = channel.lock.try_enter().expect("a test is alone");
    let applied = entered.with(|state| state.apply(channel, request, publications, env));
    let nothing = |_: &mut ChannelState, _| unreachable!("a test is alone");
    let _left = entered.leave(&mut 0, nothing, |_| false);
    applied
}

fn gain(channel: &Channel, env: &mut Worker, worker: u16) {
    let gained = Request { interest: Some(Interest::Gained), ..request(worker) };
    apply(channel, env, gained, &mut []).expect("interest is not refused");
}

fn send(channel: &Channel, env: &mut Worker) -> Result<Applied, ReplyError> {
    let id = env.ids.message_id(1_000);
    let message = Publication { kept: true, ..Publication::message(id, "e", Payload::Json("1")) };
    apply(channel, env, request(env.id.0), &mut [message])
}

fn ask(channel: &Channel, env: &mut Worker, what: ChannelRequest) -> Result<Applied, ReplyError> {
    apply(channel, env, Request { request: Some(Box::new(what)), ..request(0) }, &mut [])
}

#[test]
fn a_message_is_given_to_own_members_at_once_and_posted_to_others() {
    let (channel, mut env) = (channel(ChannelOptions::default()), Worker::new(ChannelOptions::default()));
    [0, 1].into_iter().for_each(|worker| gain(&channel, &mut env, worker));
    let applied = send(&channel, &mut env).expect("nobody is full");
    assert_eq!((applied.direct, applied.sequence, applied.receipt.offset), (true, 1, Some(1)));
    assert_eq!(env.take_publications(), [(1, 1, Kind::Message)]);
    env.has_mail = true;
    let applied = send(&channel, &mut env).expect("nobody is full");
    assert_eq!((applied.direct, applied.receipt.offset), (false, Some(2)));
    assert_eq!(env.take_publications(), [(0, 2, Kind::Message), (1, 2, Kind::Message)]);
}

#[test]
fn a_full_mailbox_of_a_worker_with_members_refuses_a_message_without_a_trace() {
    let (channel, mut env) = (channel(ChannelOptions::default()), Worker::new(ChannelOptions::default()));
    [0, 1].into_iter().for_each(|worker| gain(&channel, &mut env, worker));
    env.full = Some(WorkerId(1));
    assert_eq!(send(&channel, &mut env).map(|applied| applied.direct), Err(ReplyError::Overloaded));
    env.full = Some(WorkerId(2));
    let applied = send(&channel, &mut env).expect("worker 2 has no members");
    assert_eq!((applied.sequence, applied.receipt.offset), (1, Some(1)));
}

#[test]
fn members_are_told_of_a_users_first_session_and_of_the_last() {
    let options = ChannelOptions { presence_by_user: true, ..ChannelOptions::default() };
    let (channel, mut env) = (channel(options), Worker::new(options));
    gain(&channel, &mut env, 1);
    let mut told = Vec::new();
    for joins in [true, true, false, false] {
        let presence = Some(Box::new(Presence { user: "leia".into(), joins, except: None, quiet: false }));
        apply(&channel, &mut env, Request { presence, ..request(1) }, &mut []).expect("it is not refused");
        told.extend(env.take_publications().into_iter().map(|(_, _, kind)| kind));
    }
    assert_eq!(told, [Kind::UserJoined, Kind::UserLeft]);
}

/// Options that are set while the channel comes into being are in force from its first operation on.
#[test]
fn a_channel_made_with_old_options_takes_the_present_ones_with_its_first_operation() {
    let (channel, mut env) = (channel(ChannelOptions::default()), Worker::new(ChannelOptions::default()));
    env.set = Some(ChannelOptions { history: KEEPING, presence_by_user: true, ..ChannelOptions::default() });
    gain(&channel, &mut env, 0);
    assert!(channel.has_history() && channel.counts_users());
    send(&channel, &mut env).expect("nobody is full");
    let bounds = super::super::Bounds { messages: 10, bytes: 1 << 20 };
    let page = ChannelRequest::Page {
        from: super::super::PageStart::After(0),
        bounds,
        reader: super::super::Viewer::BackEnd,
    };
    let reply = ask(&channel, &mut env, page).expect("reading is not refused").reply;
    assert!(matches!(reply, Some(ChannelReply::Page(page)) if page.messages.len() == 1));
}

#[test]
fn options_that_are_refused_are_not_set_for_later_channels_either() {
    let (channel, mut env) = (channel(ChannelOptions::default()), Worker::new(ChannelOptions::default()));
    gain(&channel, &mut env, 0);
    let set = Some(ChannelOptions { presence_by_user: true, ..ChannelOptions::default() });
    let refused = ask(&channel, &mut env, ChannelRequest::SetOptions(set));
    assert_eq!(refused.map(|applied| applied.direct), Err(ReplyError::OptionInUse));
    assert_eq!(env.set, None);
}

#[test]
fn a_channel_is_deserted_when_its_last_worker_loses_interest() {
    let (channel, mut env) = (channel(ChannelOptions::default()), Worker::new(ChannelOptions::default()));
    gain(&channel, &mut env, 0);
    let lost = Request { interest: Some(Interest::Lost), ..request(0) };
    apply(&channel, &mut env, lost, &mut []).expect("it is not refused");
    let mut entered = channel.lock.try_enter().expect("a test is alone");
    assert!(entered.with(|state| state.is_deserted()));
}

#[test]
fn a_page_that_waits_in_mail_weighs_what_it_shows() {
    let options = ChannelOptions { history: KEEPING, ..ChannelOptions::default() };
    let (channel, mut env) = (channel(options), Worker::new(options));
    let payload = format!("\"{}\"", "x".repeat(5_000));
    let id = env.ids.message_id(1_000);
    let message = Publication { kept: true, ..Publication::message(id, "e", Payload::Json(&payload)) };
    apply(&channel, &mut env, request(0), &mut [message]).expect("nobody is full");
    let operation = Operation {
        worker: WorkerId(1),
        interest: None,
        publications: Vec::new(),
        request: Some(Box::new(ChannelRequest::Page {
            from: super::super::PageStart::After(0),
            bounds: super::super::Bounds { messages: 10, bytes: 1 << 20 },
            reader: super::super::Viewer::BackEnd,
        })),
        presence: None,
        ticket: 5,
    };
    let mut entered = channel.lock.try_enter().expect("a test is alone");
    entered.with(|state| state.apply_delegated(&channel, operation, &mut env));
    let (to, mail) = env.posted.pop().expect("an answer");
    assert_eq!(to, 1);
    assert!(matches!(mail, ChannelMail::Done { ticket: 5, .. }) && mail.bytes() >= 5_000, "{}", mail.bytes());
}

#[test]
fn a_sender_that_wants_no_echo_is_named_to_its_own_worker_only() {
    let options = ChannelOptions { history: KEEPING, ..ChannelOptions::default() };
    let (channel, mut env) = (channel(options), Worker::new(options));
    [1, 2].into_iter().for_each(|worker| gain(&channel, &mut env, worker));
    let sender = SessionId::new(WorkerId(1), SessionSlot(3), [0; 9]);
    let audience = Audience::except(sender);
    let id = env.ids.message_id(1_000);
    let payload = format!("\"{}\"", "x".repeat(5_000));
    let message = Publication::message(id, "e", Payload::Json(&payload));
    let message = Publication { kept: true, audience: &audience, ..message };
    apply(&channel, &mut env, request(1), &mut [message]).expect("nobody is full");
    let excepts = |(to, mail): &(u16, ChannelMail)| match mail {
        ChannelMail::Publication { publication, .. } => Some((*to, publication.audience().except_session)),
        _ => None,
    };
    let told: Vec<_> = env.posted.iter().filter_map(excepts).collect();
    assert_eq!(told, [(1, Some(sender)), (2, None)]);
}

#[test]
fn reading_history_is_charged_by_what_it_reads() {
    let options =
        ChannelOptions { history: HistoryLimits { messages: 1_000, ..KEEPING }, ..ChannelOptions::default() };
    let (channel, mut env) = (channel(options), Worker::new(options));
    for _ in 0..1_000 {
        send(&channel, &mut env).expect("nobody is full");
    }
    assert_eq!(env.charged, 0);
    let (bounds, reader) =
        (super::super::Bounds { messages: 1_000, bytes: 1 << 20 }, super::super::Viewer::BackEnd);
    let from = super::super::PageStart::After(0);
    ask(&channel, &mut env, ChannelRequest::Page { from, bounds, reader: reader.clone() })
        .expect("it is read");
    assert!((250..=300).contains(&env.charged), "{}", env.charged);
    env.charged = 0;
    ask(&channel, &mut env, ChannelRequest::CatchUp { since: 990, bounds, reader }).expect("it is read");
    assert!((2..=20).contains(&env.charged), "{}", env.charged);
}
