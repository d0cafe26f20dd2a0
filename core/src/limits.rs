//! Every bound that is not an app's own, in one place; relations between them are asserted at compile time.

/// Workers in one process.
pub const MAX_WORKERS: usize = 128;

/// Shards of the channel table. A page of a channel listing looks through whole shards, so this also bounds
/// its work.
pub const TABLE_SHARDS: usize = 256;

/// Bytes of a channel's or event's name.
pub const NAME_BYTES: usize = 256;

/// Commands of one session that may be in flight, and bytes of their payloads.
pub const WINDOW_COMMANDS: usize = 64;
/// See [`WINDOW_COMMANDS`].
pub const WINDOW_BYTES: usize = 64 << 10;

/// Commands in one frame, and publications in one request.
pub const BATCH: usize = 256;

/// Messages of one sender in a row that are published in one operation.
pub const BURST: usize = 16;

/// Bytes of a command's `id`, as text.
pub const COMMAND_ID_BYTES: usize = 64;

/// Channels of an app that have options of their own, set over HTTP.
pub const CHANNEL_OPTIONS: usize = 64 << 10;

/// The apps that may be added while the server runs. An app that comes back is not added.
pub const APPS_ADDED: usize = 64;

/// Milliseconds after which the options of an unused channel are dropped, and the interval at which the
/// server looks for such options.
pub const CONFIGURED_MS: u64 = 7 * 24 * 3_600_000;
/// The interval at which the server looks for options of unused channels. See [`CONFIGURED_MS`].
pub const CONFIGURED_SWEEP_MS: u64 = 3_600_000;

/// Bytes of an idempotency key.
pub const IDEMPOTENCY_KEY_BYTES: usize = 128;

/// Idempotency keys that a worker remembers, and for how many milliseconds.
pub const IDEMPOTENCY_KEYS: usize = 16 << 10;
/// See [`IDEMPOTENCY_KEYS`].
pub const IDEMPOTENCY_MS: u64 = 120_000;

/// Session tokens that one session may have checked in a second.
pub const TOKENS_PER_SECOND: u8 = 4;

/// Users of an app whose tokens are revoked at a time.
pub const REVOCATIONS: usize = 65_536;

/// Session tokens in a row that do not verify before the connection is closed.
pub const BAD_TOKENS: u8 = 3;

/// Bytes of a name that a back end gives the sender of a message.
pub const LABEL_BYTES: usize = 512;

/// The most states of users in an app.
pub const USER_STATES: usize = 64 << 10;
/// The most bytes of a user's state.
pub const USER_STATE_BYTES: usize = 16 << 10;

/// How long the state of a user without sessions is kept, in milliseconds.
pub const USER_MS: u64 = 24 * 3_600_000;
/// The time between two sweeps of users' states, in milliseconds.
pub const USER_SWEEP_MS: u64 = 3_600_000;

/// Users that a message names.
pub const AUDIENCE_USERS: usize = 256;

/// Members or channels in one page, and the number when none is asked for.
pub const PAGE: usize = 1000;
/// See [`PAGE`].
pub const PAGE_DEFAULT: usize = 100;

/// Bytes of what is listed in one page of members, sessions or history.
pub const PAGE_BYTES: usize = 1 << 20;

/// The most session slots that a worker looks at for one page of all sessions.
pub const SESSIONS_LOOKED_AT: usize = 16 << 10;

/// The most channels that a worker samples at a time.
pub const WATCHES: usize = 8;

/// The most samples of a channel that wait for a question, and the most samples that are taken in a second.
pub const WATCH_SAMPLES: usize = 100;
/// The most samples of a channel in a second. See [`WATCH_SAMPLES`].
pub const WATCH_SAMPLES_PER_SECOND: u64 = 50;

/// The most bytes of a sampled frame.
pub const WATCH_FRAME_BYTES: usize = 4096;

/// Milliseconds without a question after which sampling ends.
pub const WATCH_IDLE_MS: u64 = 5_000;

/// Lists of all members that a worker reads or answers in one turn.
pub const WHOLE_LISTS: usize = 1;

/// Changes of members that wait in a channel's batch of presence notices. More are published at once.
pub const BATCHED_NOTICES: usize = 256;

/// The most members in the answer of a roster.
pub const ROSTER: usize = 4096;

/// Messages that one session can recover at once.
pub const RECOVERED: usize = 4096;

/// Within how many milliseconds the whole table is looked through for what has become too old.
pub const SWEEP_MS: u64 = 30_000;

/// Channels looked at for one page of a listing; the shard that passes the number is finished.
pub const CHANNELS_LOOKED_AT: usize = 16 << 10;

/// Channels that a slow consumer may have lost publications of before it must read to join more.
pub const MISSED_CHANNELS: usize = 1024;

/// Bytes that a worker's mailbox may keep alive before publishers are refused.
pub const MAILBOX_BYTES: usize = 64 << 20;

/// Room in a mailbox, beyond its depth, for what may not be lost: notices, and answers to those who wait.
pub const MAILBOX_NOTICES: usize = 64 << 10;

const _: () = assert!(BURST * MAX_WORKERS <= MAILBOX_NOTICES, "that much the depth may be exceeded");

/// Bytes of encoded publications after which a worker ends its turn and writes.
pub const TURN_BYTES: usize = 1 << 20;

/// Units of work after which a worker ends its turn. A command is one unit, about a microsecond.
pub const TURN_WORK: usize = 16 << 10;

/// Operations of other workers that a worker inside a channel's lock applies in one turn, a unit of work
/// each.
pub const COMBINED: usize = 1024;

/// Units of work of one signature check, which takes up to 0.35 ms.
pub const SIGNATURE_WORK: usize = 400;

/// Buffers kept from one turn to the next, and the size above which one is given back instead.
pub const POOLED_BUFFERS: usize = 1024;
/// See [`POOLED_BUFFERS`].
pub const POOLED_BUFFER_BYTES: usize = 1 << 20;

/// Bytes that all pooled buffers of a worker's channels keep.
pub const POOLED_BYTES: usize = 4 << 20;

const _: () = assert!(PAGE_DEFAULT <= PAGE);
const _: () = assert!(NAME_BYTES <= u16::MAX as usize);
const _: () = assert!(TABLE_SHARDS.is_power_of_two());
const _: () = assert!(POOLED_BUFFER_BYTES <= TURN_BYTES && POOLED_BUFFER_BYTES <= POOLED_BYTES);
