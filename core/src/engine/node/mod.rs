//! What all workers of a process share: apps, the channel table, broadcast streams, mailboxes.

mod triggers;

use std::{
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use hashbrown::HashMap;

use self::triggers::TriggerSlot;
use super::{
    RandomState,
    counters::{AppCounters, AppCounts},
    mail::Mail,
    revocation::Revocations,
};
use crate::{
    app::{App, Apps, AppsError, ChannelOptions, XanoOptions},
    channel::{Channel, ChannelTable},
    error::ReplyError,
    id::{AppId, SessionId, WorkerId},
    limits::{APPS_ADDED, CHANNEL_OPTIONS, CONFIGURED_MS},
    mailbox::Mailbox,
    secret::Secret,
    user_states::UserStates,
};

/// Shared by all engines of a process.
pub struct Node {
    /// The apps for rare uses. Every engine has a copy, so that no message of a session takes this lock.
    apps: RwLock<Arc<Apps>>,
    /// The options for clients of Xano that back ends have set, which replace those of the configuration.
    /// Locked during every change of the apps.
    xano: Mutex<HashMap<AppId, XanoOptions, RandomState>>,
    tenants: Box<[Tenant]>,
    /// For each worker, its counts of each app.
    counters: Box<[Arc<[AppCounters]>]>,
    pub(super) table: ChannelTable,
    mailboxes: Box<[Mailbox<Mail>]>,
    /// The outlets of clients that poll, by the clients' secrets.
    outlets: papaya::HashMap<Secret, Outlet>,
    /// What resumes which session, of all apps.
    tickets: papaya::HashMap<Secret, SessionId>,
}

/// The place of a client that polls.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Outlet {
    /// The worker that holds the client's outlet.
    pub worker: WorkerId,
    /// The outlet's name on that worker.
    pub id: u64,
}

/// What the node keeps for an app.
pub(super) struct Tenant {
    broadcast: Arc<Channel>,
    sessions: AtomicUsize,
    /// What the histories of its channels cost.
    remembered: AtomicUsize,
    /// Messages forgotten because that was too much.
    forgotten: AtomicU64,
    /// Whether an engine is making them cost less.
    evicting: AtomicBool,
    /// Sessions without outlet, and the bytes that they keep.
    parked: AtomicUsize,
    parked_bytes: AtomicUsize,
    /// Whether options were ever set for a single channel: so most channels come into being without a second
    /// look.
    has_set_options: AtomicBool,
    /// Channels whose options were set. Such a channel exists, even without members.
    options: papaya::HashMap<Box<str>, Configured>,
    pub(super) triggers: TriggerSlot,
    user_states: Arc<UserStates>,
    /// The users whose session tokens are revoked.
    pub(super) revoked_users: Revocations,
    /// The ids of revoked session tokens.
    pub(super) revoked_tokens: Revocations,
}

/// The options that were set for a channel.
struct Configured {
    options: ChannelOptions,
    /// Whether the options were used since the last sweep.
    is_used: AtomicBool,
    /// When a sweep last found the options in use, on a clock that never steps back.
    used_ms: AtomicU64,
}

impl Configured {
    fn new(options: ChannelOptions) -> Self {
        Self { options, is_used: AtomicBool::new(true), used_ms: AtomicU64::new(0) }
    }

    /// Notes a use of the options.
    fn touch(&self) -> ChannelOptions {
        // Relaxed: the flag orders no other memory access.
        self.is_used.store(true, Ordering::Relaxed);
        self.options
    }
}

impl Node {
    /// A node for `workers` workers, whose mailboxes are full at `mailbox_depth`. `seed` is random.
    pub fn new(apps: Apps, workers: usize, mailbox_depth: usize, seed: u64) -> Self {
        let tenant = |app| Tenant {
            broadcast: Arc::new(Channel::broadcast(app, workers)),
            sessions: AtomicUsize::new(0),
            remembered: AtomicUsize::new(0),
            forgotten: AtomicU64::new(0),
            evicting: AtomicBool::new(false),
            parked: AtomicUsize::new(0),
            parked_bytes: AtomicUsize::new(0),
            has_set_options: AtomicBool::new(false),
            options: papaya::HashMap::new(),
            triggers: TriggerSlot::default(),
            user_states: Arc::default(),
            revoked_users: Revocations::default(),
            revoked_tokens: Revocations::default(),
        };
        let ids = || (0..=u16::MAX).take(apps.len() + APPS_ADDED).map(AppId);
        let counters = || ids().map(|_| AppCounters::default()).collect();
        Self {
            tenants: ids().map(tenant).collect(),
            counters: (0..workers).map(|_| counters()).collect(),
            apps: RwLock::new(Arc::new(apps)),
            xano: Mutex::default(),
            table: ChannelTable::new(workers, seed),
            mailboxes: (0..workers).map(|_| Mailbox::new(mailbox_depth)).collect(),
            outlets: papaya::HashMap::new(),
            tickets: papaya::HashMap::new(),
        }
    }

    /// The configured apps. Takes a lock.
    pub fn apps(&self) -> Arc<Apps> {
        self.apps.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What becomes of the apps if `new` replaces them, or `None` if the node has no room for more apps.
    pub fn successors(&self, new: &Apps) -> Option<Arc<Apps>> {
        self.apps().succeed(new, self.tenants.len()).map(Arc::new)
    }

    /// Replaces the apps by their [successors](Node::successors). The engines follow by
    /// [`Engine::set_apps`](super::Engine::set_apps).
    pub fn set_apps(&self, apps: Arc<Apps>) {
        let set = self.xano.lock().unwrap_or_else(PoisonError::into_inner);
        let mut apps = apps;
        for (id, options) in &*set {
            let app = apps.of(*id);
            // Options whose names another app has by now are not used.
            let with = app.xano.as_ref().and_then(|_| apps.with(app.with_xano(options.clone())).ok());
            apps = with.map_or(apps, Arc::new);
        }
        *self.apps.write().unwrap_or_else(PoisonError::into_inner) = apps;
    }

    /// Replaces the options of an app for clients of Xano. The change takes effect by
    /// [`BackEndCommand::Reconfigure`](crate::command::BackEndCommand::Reconfigure), and survives
    /// [`Node::set_apps`].
    ///
    /// # Errors
    /// If another app has one of the names in the options.
    pub fn set_xano(&self, app: AppId, options: XanoOptions) -> Result<(), AppsError> {
        let mut set = self.xano.lock().unwrap_or_else(PoisonError::into_inner);
        let apps = self.apps();
        let changed = apps.with(apps.of(app).with_xano(options.clone()))?;
        set.insert(app, options);
        *self.apps.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(changed);
        Ok(())
    }

    /// The app with this id, which this node gave out. Takes a lock.
    pub fn app(&self, app: AppId) -> Arc<App> {
        self.apps().of(app).clone()
    }

    /// Number of workers.
    pub fn workers(&self) -> usize {
        self.mailboxes.len()
    }

    /// The same, as ids count them.
    pub(super) fn worker_count(&self) -> u16 {
        u16::try_from(self.workers()).expect("workers are few")
    }

    /// The worker of a session; none, if the id names no worker of this node.
    pub(super) fn workers_of(&self, session: SessionId) -> Range<u16> {
        let WorkerId(worker) = session.worker();
        if worker < self.worker_count() { worker..worker + 1 } else { 0..0 }
    }

    /// Number of channels.
    pub fn channels(&self) -> usize {
        self.table.len()
    }

    /// Calls `visit` with every channel of one of the table's [shards](crate::limits::TABLE_SHARDS), for all
    /// apps.
    pub fn visit_channels(&self, shard: usize, visit: impl FnMut(&Arc<Channel>)) {
        self.table.visit_shard(shard, visit);
    }

    /// What all engines have counted of an app.
    pub fn counts(&self, app: AppId) -> AppCounts {
        let mut counts = AppCounts::default();
        for of_worker in &self.counters {
            of_worker[usize::from(app.0)].add_to(&mut counts);
        }
        counts
    }

    /// The counts of one worker, by app.
    pub(super) fn counters_of(&self, worker: WorkerId) -> &Arc<[AppCounters]> {
        &self.counters[usize::from(worker.0)]
    }

    /// Number of sessions of an app.
    pub fn sessions(&self, app: AppId) -> usize {
        self.tenant(app).sessions.load(Ordering::Relaxed)
    }

    /// A worker's mailbox.
    pub fn mailbox(&self, worker: WorkerId) -> &Mailbox<Mail> {
        &self.mailboxes[usize::from(worker.0)]
    }

    /// The channel of this name, if there is one; without a name, the app's broadcast stream.
    pub fn channel(&self, app: AppId, name: Option<&str>) -> Option<Arc<Channel>> {
        match name {
            Some(name) => self.table.find(app, name, Clone::clone),
            None => Some(self.broadcast(app).clone()),
        }
    }

    /// The channel of this name, which comes into being if need be.
    pub(super) fn find_or_create(&self, app: &App, name: &str) -> Arc<Channel> {
        self.table.find_or_create(app.id, name, || self.options(app, name))
    }

    /// The options of a channel of this name that comes into being.
    pub(super) fn options(&self, app: &App, name: &str) -> ChannelOptions {
        let own = &self.tenant(app.id).options;
        let set = if own.is_empty() { None } else { own.pin().get(name).map(Configured::touch) };
        set.unwrap_or_else(|| app.channel_options(name))
    }

    /// Whether options were set for the channel of this name.
    pub(super) fn is_configured(&self, app: AppId, name: &str) -> bool {
        let own = &self.tenant(app).options;
        !own.is_empty() && own.pin().get(name).map(Configured::touch).is_some()
    }

    /// Whether options of a channel may have changed since it was made. Whoever asks fences before.
    pub(super) fn has_set_options(&self, app: AppId) -> bool {
        self.tenant(app).has_set_options.load(Ordering::Relaxed)
    }

    /// Sets the options of channels of this name that come into being from now on; `None`: as the
    /// configuration says.
    pub(super) fn set_options(
        &self,
        app: AppId,
        name: &str,
        options: Option<ChannelOptions>,
    ) -> Result<(), ReplyError> {
        let tenant = self.tenant(app);
        // Relaxed: whoever sets options fences afterwards.
        tenant.has_set_options.store(true, Ordering::Relaxed);
        let own = tenant.options.pin();
        match options {
            None => {
                own.remove(name);
            }
            Some(_) if own.len() >= CHANNEL_OPTIONS && !own.contains_key(name) => {
                return Err(ReplyError::TooManyOptions);
            }
            Some(options) => {
                own.insert(name.into(), Configured::new(options));
            }
        }
        Ok(())
    }

    /// Sets the options of the channel of this name, if none are set. Returns whether the options were set
    /// now.
    pub(super) fn set_first_options(
        &self,
        app: AppId,
        name: &str,
        options: ChannelOptions,
    ) -> Result<bool, ReplyError> {
        let own = self.tenant(app).options.pin();
        if own.contains_key(name) {
            return Ok(false);
        }
        if own.len() >= CHANNEL_OPTIONS {
            return Err(ReplyError::TooManyOptions);
        }
        Ok(own.try_insert(name.into(), Configured::new(options)).is_ok())
    }

    /// Whether options were set for any channel.
    pub(super) fn has_configured(&self) -> bool {
        self.tenants.iter().any(|tenant| !tenant.options.is_empty())
    }

    /// Drops the options of channels that nobody has used for [`CONFIGURED_MS`].
    pub(super) fn expire_options(&self, now_ms: u64) {
        for (app, tenant) in (0..).map(AppId).zip(&self.tenants) {
            let own = tenant.options.pin();
            let is_over = |name: &str, configured: &Configured| {
                let is_used = configured.is_used.swap(false, Ordering::Relaxed);
                if is_used || self.table.find(app, name, |_| ()).is_some() {
                    configured.used_ms.store(now_ms, Ordering::Relaxed);
                }
                configured.used_ms.load(Ordering::Relaxed).saturating_add(CONFIGURED_MS) < now_ms
            };
            own.retain(|name, configured| !is_over(name, configured));
        }
    }

    /// At most `limit` names of an app's channels that exist only because their options were set. The names
    /// begin with `prefix`, come after `after`, and are sorted.
    pub(super) fn configured_names(
        &self,
        app: AppId,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Vec<Box<str>> {
        let own = self.tenant(app).options.pin();
        let meant = |name: &str| name.starts_with(prefix) && after.is_none_or(|after| name > after);
        let idle = |name: &str| self.table.find(app, name, |_| ()).is_none();
        let names = own.keys().filter(|name| meant(name) && idle(name));
        let mut names: Vec<Box<str>> = names.cloned().collect();
        names.sort_unstable();
        names.truncate(limit);
        names
    }

    /// The number of an app's channels whose options were set.
    pub(super) fn configured(&self, app: AppId) -> usize {
        self.tenant(app).options.len()
    }

    /// What the histories of an app's channels cost, in bytes.
    pub fn remembered(&self, app: AppId) -> usize {
        self.tenant(app).remembered.load(Ordering::Relaxed)
    }

    /// Messages of an app that were forgotten because it remembered too much.
    pub fn forgotten(&self, app: AppId) -> u64 {
        self.tenant(app).forgotten.load(Ordering::Relaxed)
    }

    pub(super) fn count_forgotten(&self, app: AppId, messages: u64) {
        // Relaxed: a count, which orders nothing.
        self.tenant(app).forgotten.fetch_add(messages, Ordering::Relaxed);
    }

    /// The history of one of an app's channels cost `before` bytes and costs `now`. Returns what all cost
    /// together.
    pub(super) fn account(&self, app: AppId, before: usize, now: usize) -> usize {
        let total = &self.tenant(app).remembered;
        // Relaxed: a sum, which orders nothing.
        if now >= before {
            total.fetch_add(now - before, Ordering::Relaxed) + (now - before)
        } else {
            total.fetch_sub(before - now, Ordering::Relaxed) - (before - now)
        }
    }

    /// Whether any channel has a history.
    pub(super) fn remembers(&self) -> bool {
        self.tenants.iter().any(|tenant| tenant.remembered.load(Ordering::Relaxed) > 0)
    }

    /// One engine at a time makes room in an app: takes on the task, unless another has.
    pub(super) fn start_eviction(&self, app: AppId) -> bool {
        // Relaxed: who does it does not matter, and nothing is handed over.
        !self.tenant(app).evicting.swap(true, Ordering::Relaxed)
    }

    /// The task is done.
    pub(super) fn end_eviction(&self, app: AppId) {
        self.tenant(app).evicting.store(false, Ordering::Relaxed);
    }

    /// Whether some worker cannot even keep up with notices.
    pub(super) fn is_saturated(&self) -> bool {
        self.mailboxes.iter().any(Mailbox::is_saturated)
    }

    /// The worker that knows whether an app has used this idempotency key.
    pub(super) fn owner(&self, app: AppId, key: &str) -> WorkerId {
        let workers = self.workers() as u64;
        WorkerId(u16::try_from(self.table.hash(app, key) % workers).expect("workers are few"))
    }

    /// The stream that every session of an app is in.
    pub(super) fn broadcast(&self, app: AppId) -> &Arc<Channel> {
        &self.tenant(app).broadcast
    }

    /// Counts a session in, unless the app is full.
    pub(super) fn reserve_session(&self, app: &App) -> bool {
        let limit = match app.limits.connections {
            _ if app.removed => 0,
            0 => usize::MAX,
            limit => limit as usize,
        };
        // Relaxed: a count, which orders nothing.
        self.tenant(app.id)
            .sessions
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < limit).then_some(n + 1))
            .is_ok()
    }

    /// Counts a resumed session among the app's connections, whatever the app's limit is.
    pub(super) fn readmit_session(&self, app: AppId) {
        self.tenant(app).sessions.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn release_session(&self, app: AppId) {
        self.tenant(app).sessions.fetch_sub(1, Ordering::Relaxed);
    }

    /// The outlet of the client with this secret.
    pub fn outlet(&self, secret: &Secret) -> Option<Outlet> {
        self.outlets.pin().get(secret).copied()
    }

    /// Records the outlet of the client with this secret.
    pub fn open_outlet(&self, secret: Secret, outlet: Outlet) {
        self.outlets.pin().insert(secret, outlet);
    }

    /// Removes the outlet of the client with this secret.
    pub fn close_outlet(&self, secret: &Secret) {
        self.outlets.pin().remove(secret);
    }

    /// The session that a ticket resumes.
    pub fn resumable(&self, ticket: &Secret) -> Option<SessionId> {
        self.tickets.pin().get(ticket).copied()
    }

    pub(super) fn issue_ticket(&self, ticket: Secret, session: SessionId) {
        self.tickets.pin().insert(ticket, session);
    }

    /// Takes a ticket back; false if another has taken it already.
    pub(super) fn revoke_ticket(&self, ticket: &Secret) -> bool {
        self.tickets.pin().remove(ticket).is_some()
    }

    /// Sessions of an app that have no outlet at present.
    pub fn parked_sessions(&self, app: AppId) -> usize {
        self.tenant(app).parked.load(Ordering::Relaxed)
    }

    /// Bytes that an app's parked sessions keep.
    pub fn parked_bytes(&self, app: AppId) -> usize {
        self.tenant(app).parked_bytes.load(Ordering::Relaxed)
    }

    /// Counts a session as parked with so many bytes, unless the app has as many as it may.
    pub(super) fn reserve_parked(&self, app: &App, bytes: usize) -> bool {
        let Tenant { parked, parked_bytes, .. } = self.tenant(app.id);
        // Relaxed: counts, which order nothing.
        let fits = parked
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| {
                (n < app.limits.parked_sessions).then_some(n + 1)
            })
            .is_ok();
        if fits && self.grow_parked(app, bytes) {
            return true;
        }
        if fits {
            parked_bytes.fetch_sub(bytes, Ordering::Relaxed);
            parked.fetch_sub(1, Ordering::Relaxed);
        }
        false
    }

    /// A parked session keeps `bytes` more. Returns whether the app may keep that much; they are counted in
    /// any case.
    pub(super) fn grow_parked(&self, app: &App, bytes: usize) -> bool {
        let before = self.tenant(app.id).parked_bytes.fetch_add(bytes, Ordering::Relaxed);
        before + bytes <= app.limits.parked_bytes
    }

    /// Counts a session with so many bytes as parked, whatever the app's limits are.
    pub(super) fn count_parked(&self, app: AppId, bytes: usize) {
        self.tenant(app).parked.fetch_add(1, Ordering::Relaxed);
        self.tenant(app).parked_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A parked session keeps `bytes` less.
    pub(super) fn shrink_parked(&self, app: AppId, bytes: usize) {
        self.tenant(app).parked_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// A session that kept so many bytes is parked no more.
    pub(super) fn release_parked(&self, app: AppId, bytes: usize) {
        self.tenant(app).parked_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.tenant(app).parked.fetch_sub(1, Ordering::Relaxed);
    }

    /// Ids of the apps.
    pub(super) fn app_ids(&self) -> impl Iterator<Item = AppId> + use<> {
        (0..u16::try_from(self.tenants.len()).expect("ids are 16 bits")).map(AppId)
    }

    /// The states of an app's users.
    pub fn user_states(&self, app: AppId) -> &Arc<UserStates> {
        &self.tenant(app).user_states
    }

    pub(super) fn tenant(&self, app: AppId) -> &Tenant {
        &self.tenants[usize::from(app.0)]
    }
}
