//! The bodies of requests and the values that their fields may have. A missing field has the original's
//! default. An unknown field is ignored, but an unknown field of a message is delivered to the message's
//! receivers.

use std::sync::Arc;

use super::{
    directory::ConnId,
    fields::{
        Fields, INPUT_TYPE, Length, NULL, Read, boolean, count, list, map, name, object_of_anything, scalar,
        text, time, uuid, wrong, wrong_type,
    },
    tree::{Json, Members},
};
use crate::{id::MessageId, publication::Audience};

/// A channel's settings.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) struct Settings {
    pub(super) notify_presence: bool,
    pub(super) store_history: bool,
    pub(super) history_size: u64,
    pub(super) user_lists: bool,
    pub(super) notify_state: bool,
    pub(super) store_frames: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            notify_presence: false,
            store_history: false,
            history_size: 10,
            user_lists: false,
            notify_state: false,
            store_frames: true,
        }
    }
}

impl Settings {
    /// The number of messages that the channel's history keeps.
    pub(super) fn remembered(self) -> u32 {
        /// The most messages that a channel remembers.
        const MOST: u64 = 65_536;
        if self.store_history { self.history_size.min(MOST) as u32 } else { 0 }
    }

    /// Reads the settings that a back end gives. A missing setting has its default.
    fn read(value: &Json) -> Result<Self, Members> {
        let mut fields = Fields::of(value)?;
        let default = Self::default();
        let mut flag = |name, default| fields.optional(name, boolean).unwrap_or(default);
        let notify_presence = flag("notify_presence", default.notify_presence);
        let store_history = flag("store_history", default.store_history);
        let history_size = fields.optional("history_size", count).unwrap_or(default.history_size);
        let mut flag = |name, default| fields.optional(name, boolean).unwrap_or(default);
        let user_lists = flag("broadcast_presence_with_user_lists", default.user_lists);
        let notify_state = flag("notify_state", default.notify_state);
        let store_frames = flag("store_frames", default.store_frames);
        fields.errors()?;
        Ok(Self { notify_presence, store_history, history_size, user_lists, notify_state, store_frames })
    }
}

/// Settings by channel.
pub(super) type SettingsByChannel = Vec<(Box<str>, Settings)>;

/// Which parts of channels an answer describes.
#[derive(Clone, Debug)]
pub(super) struct InfoConfig {
    pub(super) history: bool,
    pub(super) users: bool,
    pub(super) channels: Option<Vec<Box<str>>>,
    pub(super) except: Vec<Box<str>>,
    pub(super) public_state: bool,
}

impl Default for InfoConfig {
    fn default() -> Self {
        Self { history: true, users: true, channels: None, except: Vec::new(), public_state: false }
    }
}

impl InfoConfig {
    fn read(value: &Json) -> Read<Self> {
        let mut fields = Fields::of(value).map_err(Json::from)?;
        let history = fields.optional("include_history", boolean).unwrap_or(true);
        let users = fields.optional("include_users", boolean).unwrap_or(true);
        let channels = fields.optional("channels", list(name(Length::NAME)));
        let except = fields.optional("exclude_channels", list(name(Length::NAME))).unwrap_or_default();
        // The field never had an effect in the original, but the original checks its type.
        fields.optional("include_connections", boolean);
        let public_state = fields.optional("return_public_state", boolean).unwrap_or(false);
        fields.errors().map_err(Json::from)?;
        Ok(Self { history, users, channels, except, public_state })
    }
}

/// A user's state, or a part of it.
pub(super) type State = Vec<(Box<str>, Json)>;

/// The body of `/connect`.
#[derive(Debug)]
pub(super) struct Connect {
    pub(super) username: Box<str>,
    pub(super) conn_id: Option<ConnId>,
    pub(super) channels: Vec<Box<str>>,
    pub(super) public_keys: Vec<Box<str>>,
    pub(super) fresh_state: State,
    pub(super) state: State,
    pub(super) settings: SettingsByChannel,
    pub(super) info: InfoConfig,
}

impl Connect {
    /// Reads the body. `is_foreign` says whether an id belongs to another user's connection.
    pub(super) fn read(body: &Json, is_foreign: impl Fn(ConnId, &str) -> bool) -> Result<Self, Members> {
        let mut fields = Fields::of(body)?;
        let username = fields.required("username", name(Length::USER));
        let conn_id = fields.optional("conn_id", |value| {
            let id = ConnId(uuid(value)?);
            let is_foreign = username.as_ref().is_some_and(|username| is_foreign(id, username));
            if is_foreign { Err(wrong("Connection of another user")) } else { Ok(id) }
        });
        let channels = fields.optional("channels", channel_list).unwrap_or_default();
        let public_keys = fields.optional("state_public_keys", list(name(Length::NAME))).unwrap_or_default();
        let fresh_state = fields.optional("fresh_user_state", map(scalar)).unwrap_or_default();
        let state = fields.optional("user_state", map(scalar)).unwrap_or_default();
        let settings = fields.optional("channel_configs", settings_map).unwrap_or_default();
        let info = fields.optional("info", InfoConfig::read).unwrap_or_default();
        fields.errors()?;
        let username = username.ok_or_else(wrong_type)?;
        Ok(Self { username, conn_id, channels, public_keys, fresh_state, state, settings, info })
    }
}

/// The most channels of one request and of one connection.
pub(super) const CHANNELS: usize = 1000;

fn channel_list(value: &Json) -> Read<Vec<Box<str>>> {
    let channels = list(name(Length::NAME))(value)?;
    match channels.len() <= CHANNELS {
        true => Ok(channels),
        false => Err(wrong(&format!("Longer than maximum length {CHANNELS}."))),
    }
}

fn settings_map(value: &Json) -> Read<SettingsByChannel> {
    map(|value| {
        super::fields::not_null(value)?;
        Settings::read(value).map_err(Json::from)
    })(value)
}

/// The body of `/subscribe` and `/unsubscribe`.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) conn_id: ConnId,
    pub(super) channels: Vec<Box<str>>,
    pub(super) settings: SettingsByChannel,
    pub(super) info: InfoConfig,
}

impl Subscription {
    /// Reads the body. `query` is the connection's id in the query. `is_known` says whether a connection
    /// exists.
    pub(super) fn read(
        body: &Json,
        query: Option<&str>,
        is_known: impl Fn(ConnId) -> bool,
    ) -> Result<Self, Members> {
        let mut fields = Fields::of(body)?;
        let conn_id = fields.required_or("conn_id", &query.into(), |value| {
            let id = ConnId(uuid(value)?);
            if is_known(id) { Ok(id) } else { Err(wrong("Unknown connection")) }
        });
        let channels = fields.required("channels", |value| {
            let channels = channel_list(value)?;
            if channels.is_empty() { Err(wrong("Shorter than minimum length 1.")) } else { Ok(channels) }
        });
        let info = fields.optional("info", InfoConfig::read).unwrap_or_default();
        let settings = fields.optional("channel_configs", settings_map).unwrap_or_default();
        fields.errors()?;
        let (conn_id, channels) = conn_id.zip(channels).ok_or_else(wrong_type)?;
        Ok(Self { conn_id, channels, settings, info })
    }
}

/// The body of `/user_state`.
#[derive(Debug)]
pub(super) struct UserState {
    pub(super) user: Box<str>,
    pub(super) state: State,
    pub(super) public_keys: Option<Vec<Box<str>>>,
}

impl UserState {
    pub(super) fn read(body: &Json, is_known: impl Fn(&str) -> bool) -> Result<Self, Members> {
        let mut fields = Fields::of(body)?;
        let user = fields.required("user", |value| {
            let user = text(value)?;
            let mut wrongs = Vec::new();
            if !(1..=Length::USER.most).contains(&user.chars().count()) {
                wrongs.push(format!("Length must be between 1 and {}.", Length::USER.most));
            }
            if !is_known(&user) {
                wrongs.push("Unknown user".into());
            }
            if wrongs.is_empty() { Ok(user) } else { Err(wrongs.into_iter().collect()) }
        });
        let state = fields.optional("user_state", map(scalar)).unwrap_or_default();
        let public_keys = fields.nullable("state_public_keys", list(name(Length::NAME)));
        fields.errors()?;
        Ok(Self { user: user.ok_or_else(wrong_type)?, state, public_keys })
    }
}

/// The receivers of a message, an edit or a deletion.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    pub(super) pm_users: Vec<Box<str>>,
    pub(super) exclude_users: Vec<Box<str>>,
    pub(super) channel: Option<Box<str>>,
    pub(super) no_history: bool,
}

impl Delivery {
    /// Whether the delivery names neither a channel nor users.
    pub(super) fn is_empty(&self) -> bool {
        self.channel.is_none() && self.pm_users.is_empty()
    }

    /// The number of a channel's members that receive the message: of `all` members, each user has
    /// `of(user)`.
    pub(super) fn receivers(&self, all: usize, of: impl Fn(&str) -> usize) -> usize {
        let sum = |mut users: Vec<&Box<str>>| {
            users.sort_unstable();
            users.dedup();
            users.into_iter().map(|user| of(user)).sum::<usize>()
        };
        let Self { pm_users, exclude_users, .. } = self;
        match pm_users.is_empty() {
            true => all - sum(exclude_users.iter().collect()),
            false => sum(pm_users.iter().filter(|user| !exclude_users.contains(user)).collect()),
        }
    }

    /// The receivers as an audience. A message without channel excludes nobody.
    pub(super) fn audience(&self) -> Audience {
        let named = |users: &[Box<str>]| (!users.is_empty()).then(|| Arc::from(users));
        let except_users = self.channel.as_ref().and_then(|_| named(&self.exclude_users));
        Audience { only_users: named(&self.pm_users), except_users, ..Audience::default() }
    }

    const FIELDS: [&str; 4] = ["pm_users", "exclude_users", "channel", "no_history"];

    fn read(fields: &mut Fields<'_>) -> Self {
        Self {
            pm_users: fields.optional("pm_users", list(name(Length::USER))).unwrap_or_default(),
            exclude_users: fields.optional("exclude_users", list(name(Length::USER))).unwrap_or_default(),
            channel: fields.nullable("channel", name(Length::NAME)),
            no_history: fields.optional("no_history", boolean).unwrap_or(false),
        }
    }
}

/// One element of the body of `/message`: a message, an edit or a deletion.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) delivery: Delivery,
    pub(super) uuid: MessageId,
    pub(super) timestamp: Option<Box<str>>,
    pub(super) user: Option<Box<str>>,
    pub(super) message: Option<Members>,
    pub(super) edited: Option<Box<str>>,
    pub(super) extras: Members,
}

/// The kind of a body's elements.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum ItemKind {
    Message,
    Edit,
    Delete,
}

/// Members that the server sets, whatever the back end says.
const FORCED: [&str; 3] = ["type", "catchup", "edited"];
const CONTENT: [&str; 4] = ["uuid", "timestamp", "user", "message"];

impl Item {
    /// Reads the elements of a body. `fresh` makes the id of a message without one.
    pub(super) fn read_all(
        body: &Json,
        kind: ItemKind,
        mut fresh: impl FnMut() -> MessageId,
    ) -> Result<Vec<Self>, Members> {
        let Json::Array(values) = body else { return Err(wrong_type()) };
        let (mut items, mut errors) = (Vec::new(), Members::default());
        let (mut wrong_types, mut first_wrong) = (Vec::new(), None);
        for (at, value) in values.iter().enumerate() {
            let Ok(mut fields) = Fields::of(value) else {
                // The original reports an element that is not an object as an empty map of errors, and lists
                // the sentences apart.
                errors.push(at.to_string(), Members::default());
                first_wrong.get_or_insert(errors.len());
                wrong_types.push(INPUT_TYPE);
                continue;
            };
            let item = Self::read(&mut fields, kind, &mut fresh);
            match (fields.errors(), item) {
                (Ok(()), Some(item)) => items.push(item),
                (wrong, _) => errors.push(at.to_string(), wrong.err().unwrap_or_else(wrong_type)),
            }
        }
        if let Some(first) = first_wrong {
            errors.insert(first, "_schema", wrong_types.into_iter().collect::<Json>());
        }
        if errors.is_empty() { Ok(items) } else { Err(errors) }
    }

    fn read(fields: &mut Fields<'_>, kind: ItemKind, fresh: &mut impl FnMut() -> MessageId) -> Option<Self> {
        let delivery = Delivery::read(fields);
        let uuid = match kind {
            // A wrong id makes the whole message wrong.
            ItemKind::Message => {
                Some(fields.optional("uuid", uuid).map_or_else(&mut *fresh, MessageId::from_bits))
            }
            ItemKind::Edit | ItemKind::Delete => fields.required("uuid", uuid).map(MessageId::from_bits),
        };
        let (mut timestamp, mut user, mut message, mut edited) = (None, None, None, None);
        let mut extras = Members::default();
        if kind != ItemKind::Delete {
            timestamp = fields.optional("timestamp", time);
            user = match kind {
                ItemKind::Message => fields.required("user", name(Length::USER)),
                _ => fields.optional("user", name(Length::USER)),
            };
            message = fields.optional("message", object_of_anything);
            extras = fields.others(&[&Delivery::FIELDS[..], &CONTENT[..], &FORCED[..]].concat());
        }
        if kind == ItemKind::Edit {
            edited = fields.optional("edited", time);
        }
        Some(Self { delivery, uuid: uuid?, timestamp, user, message, edited, extras })
    }
}

/// Reads the body of `/channel_config`: the settings of channels.
pub(super) fn read_settings(body: &Json) -> Result<SettingsByChannel, Members> {
    let Json::Object(members) = body else { return Err(wrong_type()) };
    let read = |(name, value): (&str, &Json)| Ok((name.into(), Settings::read(value)?));
    members.iter().map(read).collect()
}

/// Reads the body of `/info`. An empty body asks for everything.
pub(super) fn read_info(body: &RequestBody) -> Result<InfoConfig, Members> {
    let RequestBody::Json(body) = body else {
        return if matches!(body, RequestBody::Empty) {
            Ok(InfoConfig::default())
        } else {
            Err(wrong_type())
        };
    };
    let mut fields = Fields::of(body)?;
    let info = fields.required("info", InfoConfig::read);
    fields.errors()?;
    info.ok_or_else(wrong_type)
}

/// Reads the connection that `/disconnect` names: a POST names it in the body, any other request in the
/// query.
pub(super) fn read_conn_id(value: Option<&Json>) -> Result<ConnId, Members> {
    let error = |wrong| super::tree::object! { "conn_id": wrong };
    match value {
        None | Some(Json::Null) => Err(error(wrong(NULL))),
        Some(value) => uuid(value).map(ConnId).map_err(error),
    }
}

/// The body of a request.
#[derive(Debug)]
pub(super) enum RequestBody {
    Empty,
    Json(Json),
    /// The body is not JSON.
    Unreadable,
}

impl RequestBody {
    pub(super) fn read(body: &[u8]) -> Self {
        match Json::parse(body) {
            _ if body.is_empty() => Self::Empty,
            Some(json) => Self::Json(json),
            None => Self::Unreadable,
        }
    }

    pub(super) fn json(&self) -> Result<&Json, Members> {
        match self {
            Self::Json(json) => Ok(json),
            Self::Empty | Self::Unreadable => Err(wrong_type()),
        }
    }
}
