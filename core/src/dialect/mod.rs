//! The boundary: bytes in become commands, publications and outcomes become bytes out. Everything that
//! differs between protocols is decided here, in `policy.rs` and in the module of the dialect; no other
//! module knows a dialect's words.
//!
//! A dialect has one or several wire formats. A channel's run is encoded once for each format that has
//! members. This file, `life.rs` and `policy.rs` have the only `match`es over dialects. Another dialect is a
//! module, a variant of [`Dialect`], its variants of [`Format`], and an arm in each function there.
//!
//! ```text
//!   message ──▶ Decoder ──▶ Commands ──▶ CommandSource ──▶ Command          for a session's format
//!                  └──▶ TemplateMatch: a publication like the one before
//!   Publication ──▶ Memo ──▶ bytes, or none if the dialect has no such kind  for each format with members
//! ```

mod agnost;
mod buffer;
pub mod channelstream;
mod format;
mod life;
mod native;
mod policy;
mod polled;
#[cfg(test)]
mod probe;
mod template;
#[cfg(all(test, not(loom)))]
mod tests;
pub mod xano;

use std::{ops::Range, sync::Arc};

use bytes::BytesMut;

use self::native::{Batch, CommandReader, Envelope};
pub use self::{
    agnost::{
        Admission, BackEnd, Entrance, Heard, HttpProblem, Knock, Lobby, MembersHead, Packet, Receipt,
        Refusal, Scope, admit, put_members,
    },
    format::{Format, FormatSet},
    life::{Beat, Closing, Heartbeat, Life, Rhythm, closing, heartbeat, put_disconnect, put_refusal},
    native::http as native_http,
    policy::{
        is_reserved_event, is_resumable, judges_joins_first, knows_channel, reads_as_member, reports_absence,
    },
    polled::{Ask, PollAnswer, PollConfig, PollEffect, Polled, Posted, ProbeAnswer, upgraded_answer},
};
use crate::{
    app::{App, Apps},
    command::{Command, Outcome, Publish},
    error::ReplyError,
    id::{SessionId, SessionSlot},
    publication::{Payload, Publication},
    secret::Secret,
    ws::{self, Message},
};

/// The protocols that are spoken here.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Dialect {
    /// Fanfare's own, `docs/PROTOCOL.md`.
    Native,
    /// The dialect of Agnost and Altogic, `docs/AGNOST.md`.
    Agnost,
    /// The dialect of Channelstream, `docs/CHANNELSTREAM.md`.
    Channelstream,
    /// The dialect of Xano's clients, `docs/XANO.md`.
    Xano,
    /// That of the boundary's own tests.
    #[cfg(test)]
    Probe,
}

/// The number of dialects.
pub const DIALECTS: usize = Dialect::ALL.len();

impl Dialect {
    /// All dialects by number.
    pub const ALL: &'static [Self] = &[
        Self::Native,
        Self::Agnost,
        Self::Channelstream,
        Self::Xano,
        #[cfg(test)]
        Self::Probe,
    ];

    /// The name of the dialect.
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Agnost => "agnost",
            Self::Channelstream => "channelstream",
            Self::Xano => "xano",
            #[cfg(test)]
            Self::Probe => "probe",
        }
    }
}

impl Format {
    /// The dialect it belongs to.
    #[inline]
    pub fn dialect(self) -> Dialect {
        match self {
            Self::Native | Self::NativeText => Dialect::Native,
            Self::AgnostFrames | Self::AgnostPackets => Dialect::Agnost,
            Self::ChannelstreamFrames | Self::ChannelstreamPolls => Dialect::Channelstream,
            Self::XanoFrames => Dialect::Xano,
            #[cfg(test)]
            Self::ProbePush | Self::ProbePoll => Dialect::Probe,
        }
    }

    /// Whether the dialect keeps a directory of its own members.
    pub fn has_directory(self) -> bool {
        self.dialect() == Dialect::Channelstream
    }
}

/// A worker's decoders: what they keep from message to message, and from session to session.
#[derive(Default)]
pub struct Decoder {
    native: CommandReader,
    agnost: agnost::Sessions,
    xano: xano::Sessions,
    #[cfg(test)]
    probe: probe::Sessions,
}

/// A publication like the one before: what may differ in it.
#[derive(Copy, Clone, Debug)]
pub struct TemplateMatch<'a> {
    /// The channel; `None` is a broadcast.
    pub channel: Option<&'a str>,
    /// The payload.
    pub payload: Payload<'a>,
}

impl Decoder {
    /// Begins a session of an app.
    pub fn begin_session(&mut self, format: Format, slot: SessionSlot, app: &Arc<App>) {
        match format.dialect() {
            // Keeps nothing for a session.
            Dialect::Native | Dialect::Channelstream => {}
            Dialect::Agnost => self.agnost.begin(slot),
            Dialect::Xano => self.xano.begin(slot, app),
            #[cfg(test)]
            Dialect::Probe => self.probe.begin(slot),
        }
    }

    /// Takes over apps that replace the present ones and have the same ids.
    pub fn set_apps(&mut self, apps: &Apps) {
        self.xano.set_apps(apps);
    }

    /// A session has ended.
    pub fn end_session(&mut self, format: Format, slot: SessionSlot) {
        match format.dialect() {
            Dialect::Native | Dialect::Channelstream => {}
            Dialect::Agnost => self.agnost.end(slot),
            Dialect::Xano => self.xano.end(slot),
            #[cfg(test)]
            Dialect::Probe => self.probe.end(slot),
        }
    }

    /// Whether a message is the last publication again, with another channel or payload.
    #[inline]
    pub fn match_template<'a>(
        &self,
        format: Format,
        slot: SessionSlot,
        message: Message<'a>,
    ) -> Option<TemplateMatch<'a>> {
        match (format.dialect(), message) {
            (Dialect::Native, Message::Text(text)) => self.native.match_template(text),
            (Dialect::Agnost, Message::Text(text)) => self.agnost.match_template(slot, text),
            _ => None,
        }
    }

    /// The last publication with another channel and payload.
    #[inline]
    pub fn publish_from<'a>(&'a self, format: Format, repeated: TemplateMatch<'a>) -> Publish<'a> {
        match format.dialect() {
            Dialect::Agnost => self.agnost.publish_from(repeated),
            _ => self.native.publish_from(repeated),
        }
    }

    /// Takes a message apart. Whether each command makes sense shows only when it is asked for.
    #[inline]
    pub fn read<'s, 'a>(
        &'s mut self,
        format: Format,
        slot: SessionSlot,
        message: Message<'a>,
    ) -> Result<Commands<'s, 'a>, ReplyError> {
        match format.dialect() {
            #[cfg(test)]
            Dialect::Probe => self.probe.advance(slot, message)?,
            Dialect::Agnost => return self.agnost.read(slot, message).map(Commands::Agnost),
            Dialect::Native | Dialect::Channelstream | Dialect::Xano => {}
        }
        self.read_again(format, slot, message)
    }

    /// Takes a message apart that was held, after [`Decoder::read`] had read it. What is kept for the session
    /// stays as it is.
    #[inline]
    pub fn read_again<'s, 'a>(
        &'s mut self,
        format: Format,
        slot: SessionSlot,
        message: Message<'a>,
    ) -> Result<Commands<'s, 'a>, ReplyError> {
        match (format.dialect(), message) {
            (_, Message::Ping(_) | Message::Pong(_) | Message::Close(_)) => Ok(Commands::None),
            // Channelstream's clients send only heartbeats.
            (Dialect::Channelstream, _) => Ok(Commands::None),
            (Dialect::Native, Message::Text(text)) => {
                Batch::read(&mut self.native, text).map(Commands::Native)
            }
            (Dialect::Native, Message::Binary(bytes)) => {
                Batch::read_binary(&mut self.native, bytes).map(Commands::Native)
            }
            (Dialect::Agnost, message) => self.agnost.read_again(message).map(Commands::Agnost),
            (Dialect::Xano, message) => self.xano.read(slot, message).map(Commands::Xano),
            #[cfg(test)]
            (Dialect::Probe, Message::Text(text)) => Ok(Commands::Probe(probe::Line(text))),
            #[cfg(test)]
            (Dialect::Probe, Message::Binary(_)) => Err(ReplyError::InvalidBinary),
        }
    }
}

impl Decoder {
    /// Takes one command apart of a message that [`Decoder::read`] has read and that has several: `text` is
    /// where it stands, of [`Commands::spans`].
    pub fn read_one<'s, 'a>(
        &'s mut self,
        format: Format,
        text: &'a str,
    ) -> Result<Commands<'s, 'a>, ReplyError> {
        match format.dialect() {
            Dialect::Native => Batch::read_element(&mut self.native, text).map(Commands::Native),
            Dialect::Agnost => self.agnost.read_event(text).map(Commands::Agnost),
            Dialect::Channelstream => Ok(Commands::None),
            Dialect::Xano => unreachable!("its messages are held as a whole"),
            #[cfg(test)]
            Dialect::Probe => Ok(Commands::Probe(probe::Line(text))),
        }
    }
}

/// The commands of one message.
pub enum Commands<'s, 'a> {
    /// The message is a control frame or has no content.
    None,
    /// Native.
    Native(Batch<'s, 'a>),
    /// A packet of Agnost's dialect.
    Agnost(agnost::Packet<'a>),
    /// A frame of Xano's dialect.
    Xano(xano::Frame<'a>),
    /// The tests' dialect.
    #[cfg(test)]
    Probe(probe::Line<'a>),
}

/// The commands of a message that cannot be read again from its bytes.
pub struct KeptCommands(agnost::KeptEvent);

impl KeptCommands {
    /// The commands.
    pub fn commands(&self) -> Commands<'_, '_> {
        Commands::Agnost(self.0.packet())
    }
}

impl<'s, 'a> Commands<'s, 'a> {
    /// Keeps the commands of a binary message that cannot be read again from its bytes.
    pub fn keep(&self) -> Option<KeptCommands> {
        match self {
            Self::Agnost(packet) => packet.keep().map(KeptCommands),
            _ => None,
        }
    }

    /// Number of commands.
    #[inline]
    pub fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Native(batch) => batch.len(),
            Self::Agnost(packet) => packet.len(),
            Self::Xano(frame) => frame.len(),
            #[cfg(test)]
            Self::Probe(_) => 1,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where each command stands in its text, if it is one that may have several.
    pub fn spans(&self) -> Option<Box<[Range<u32>]>> {
        match self {
            Self::Native(batch) => batch.spans(),
            Self::Agnost(_) | Self::Xano(_) | Self::None => None,
            #[cfg(test)]
            Self::Probe(_) => None,
        }
    }

    /// The command at this place, from 0.
    ///
    /// # Panics
    /// If there are not that many.
    #[inline]
    pub fn source(&self, place: usize) -> CommandSource<'s, 'a> {
        match self {
            Self::None => unreachable!("it has no commands"),
            Self::Native(batch) => CommandSource::Native(batch.envelope(place)),
            Self::Agnost(packet) => CommandSource::Agnost(packet.clone()),
            Self::Xano(frame) => CommandSource::Xano(frame.at(place)),
            #[cfg(test)]
            Self::Probe(line) => CommandSource::Probe(*line),
        }
    }

    /// Records `publish`, which `source` says, so that publications like it are recognised.
    #[inline]
    pub fn record_template(&mut self, source: &CommandSource<'_, '_>, publish: &Publish<'_>) {
        if let (Self::Native(batch), CommandSource::Native(envelope)) = (self, source) {
            batch.record_template(envelope, publish);
        }
    }
}

/// One command as it stands in its message. The command borrows from it.
pub enum CommandSource<'s, 'a> {
    /// Native.
    Native(Envelope<'s, 'a>),
    /// The commands of an Agnost packet.
    Agnost(agnost::Packet<'a>),
    /// The commands of a Xano frame.
    Xano(xano::Frame<'a>),
    /// The tests' dialect.
    #[cfg(test)]
    Probe(probe::Line<'a>),
}

impl<'a> CommandSource<'_, 'a> {
    /// The name by which its sender knows the answer, as the dialect writes it. Without id no success is
    /// answered.
    #[inline]
    pub fn id(&self) -> Option<&'a str> {
        match self {
            Self::Native(envelope) => envelope.id(),
            Self::Agnost(packet) => packet.id(),
            Self::Xano(frame) => frame.id(),
            #[cfg(test)]
            Self::Probe(line) => line.id(),
        }
    }

    /// The command.
    #[inline]
    pub fn command(&self) -> Result<Command<'_>, ReplyError> {
        match self {
            Self::Native(envelope) => envelope.command(),
            Self::Agnost(packet) => packet.command(),
            Self::Xano(frame) => frame.command(),
            #[cfg(test)]
            Self::Probe(line) => line.command(),
        }
    }
}

/// What an encoder keeps between publications of one channel in one format.
pub struct Memo(Kept);

enum Kept {
    Native(native::Heading),
    Agnost(agnost::Heading),
    Channelstream(channelstream::Heading),
    Xano(xano::Heading),
    #[cfg(test)]
    Probe(Format),
}

impl Memo {
    /// Nothing is kept yet.
    #[inline]
    pub fn new(format: Format) -> Self {
        Self(match format.dialect() {
            Dialect::Native => Kept::Native(native::Heading::default()),
            Dialect::Agnost => Kept::Agnost(agnost::Heading::new(format)),
            Dialect::Channelstream => Kept::Channelstream(channelstream::Heading::new(format)),
            Dialect::Xano => Kept::Xano(xano::Heading::default()),
            #[cfg(test)]
            Dialect::Probe => Kept::Probe(format),
        })
    }

    /// Begins anew, for another channel in `format`; buffers are used again.
    #[inline]
    pub fn restart(&mut self, format: Format) {
        match (&mut self.0, format.dialect()) {
            (Kept::Native(heading), Dialect::Native) => heading.clear(),
            (Kept::Agnost(heading), Dialect::Agnost) => heading.restart(format),
            (Kept::Channelstream(heading), Dialect::Channelstream) => heading.restart(format),
            (Kept::Xano(heading), Dialect::Xano) => heading.clear(),
            _ => *self = Self::new(format),
        }
    }
}

/// Appends a publication of `channel` (`None`: a broadcast), or nothing if the dialect has no word for it.
/// `memo` is of this format, and has seen publications of this channel alone since it began.
#[inline]
pub fn encode_publication(
    format: Format,
    out: &mut BytesMut,
    memo: &mut Memo,
    channel: Option<&str>,
    publication: &Publication<'_>,
) {
    match &mut memo.0 {
        Kept::Native(heading) => {
            native::encode_publication(out, heading, channel, publication, native::binary(format));
        }
        Kept::Agnost(heading) => agnost::encode_publication(out, heading, channel, publication),
        Kept::Channelstream(heading) => {
            channelstream::encode_publication(out, heading, channel, publication);
        }
        Kept::Xano(heading) => xano::encode_publication(out, heading, channel, publication),
        #[cfg(test)]
        Kept::Probe(format) => probe::encode_publication(*format, out, channel, publication),
    }
}

/// The frames among `bytes`, which are whole frames of `format`, that a client counts as received; heartbeats
/// and the like are left out. Where each begins and ends.
pub fn data_frames(format: Format, bytes: &[u8]) -> impl Iterator<Item = Range<usize>> + '_ {
    match format.dialect() {
        Dialect::Native => ws::data_frames(bytes),
        // Sessions of these dialects cannot be resumed.
        Dialect::Agnost | Dialect::Channelstream | Dialect::Xano => ws::data_frames(&[]),
        #[cfg(test)]
        Dialect::Probe => ws::data_frames(&[]),
    }
}

/// Appends the answer to a command that succeeded. `id` is the command's.
pub fn encode_ok(format: Format, out: &mut BytesMut, id: &str, outcome: &Outcome) {
    match format.dialect() {
        Dialect::Native => native::encode_ok(out, id, outcome),
        Dialect::Agnost | Dialect::Channelstream => {}
        Dialect::Xano => xano::encode_ok(out, id, outcome),
        #[cfg(test)]
        Dialect::Probe => probe::put(format, out, &["ok", id]),
    }
}

/// Appends the answer to a command that failed.
pub fn encode_error(format: Format, out: &mut BytesMut, id: Option<&str>, error: ReplyError) {
    match format.dialect() {
        Dialect::Native => native::encode_error(out, id, error),
        Dialect::Agnost => agnost::encode_answer(format, out, id),
        Dialect::Channelstream => {}
        Dialect::Xano => xano::encode_error(out, id, error),
        #[cfg(test)]
        Dialect::Probe => probe::put(format, out, &["error", id.unwrap_or("-"), probe::word(error)]),
    }
}

/// Appends the answer to a command that a trigger refused, with the trigger's reason.
pub fn encode_refused(format: Format, out: &mut BytesMut, id: Option<&str>, why: &str) {
    match format.dialect() {
        Dialect::Native => native::encode_refused(out, id, why),
        // The dialect's answers have no field for a reason.
        Dialect::Agnost => agnost::encode_answer(format, out, id),
        Dialect::Channelstream => {}
        Dialect::Xano => xano::encode_refused(out, id, why),
        #[cfg(test)]
        Dialect::Probe => probe::put(format, out, &["refused", id.unwrap_or("-"), why]),
    }
}

/// Appends word of publications lost to a connection's own slowness.
pub fn encode_gap(format: Format, out: &mut BytesMut, channel: Option<&str>, missed: u64) {
    match format.dialect() {
        Dialect::Native => native::encode_gap(out, channel, missed),
        // These protocols have no word for lost messages.
        Dialect::Agnost | Dialect::Channelstream => {}
        Dialect::Xano => xano::encode_gap(out, channel, missed),
        #[cfg(test)]
        Dialect::Probe => probe::put(format, out, &["gap", channel.unwrap_or("*"), &missed.to_string()]),
    }
}

/// Appends word that the channel of this name is closed to sessions of this format.
pub fn encode_closed(format: Format, out: &mut BytesMut, name: &str) {
    if format.dialect() == Dialect::Xano {
        xano::encode_closed(out, name);
    }
}

/// Appends how long to wait before connecting again, to a connection that is about to be closed.
pub fn encode_reconnect(format: Format, out: &mut BytesMut, after_ms: u32) {
    match format.dialect() {
        Dialect::Native => native::encode_reconnect(out, after_ms),
        // Clients of these dialects choose their own time to reconnect.
        Dialect::Agnost | Dialect::Channelstream | Dialect::Xano => {}
        #[cfg(test)]
        Dialect::Probe => probe::put(format, out, &["back", &after_ms.to_string()]),
    }
}

/// What a session is told of limits when it opens.
pub struct WelcomeLimits {
    /// Milliseconds between pings.
    pub ping_interval_ms: u64,
    /// Bytes of a message of the transport.
    pub frame_bytes: usize,
    /// Bytes of a payload.
    pub message_bytes: usize,
    /// Bytes of a profile.
    pub profile_bytes: usize,
    /// Channels for each connection.
    pub channels: usize,
}

/// What a connection begins with.
pub struct Welcome<'a> {
    /// The session.
    pub session: SessionId,
    /// Its user.
    pub user: Option<&'a str>,
    /// The app's name.
    pub app: &'a str,
    /// What the session may do.
    pub limits: WelcomeLimits,
    /// What resumes the session on another connection, if the app keeps lost sessions.
    pub ticket: Option<Secret>,
    /// Whether this is a session that went on, if the client asked for that.
    pub resumed: Option<bool>,
}

/// Appends what a session receives first.
pub fn encode_welcome(format: Format, out: &mut BytesMut, welcome: &Welcome<'_>) {
    match format.dialect() {
        Dialect::Native => native::encode_welcome(out, welcome),
        Dialect::Agnost => agnost::encode_welcome(format, out, welcome),
        // A client's back end has told the client its connection's id.
        Dialect::Channelstream => {}
        // Xano's server sends no welcome.
        Dialect::Xano => {}
        #[cfg(test)]
        Dialect::Probe => probe::put(format, out, &["hello", welcome.user.unwrap_or("-")]),
    }
}
