//! Users and their states: changes by back ends (`{"state"?,"fresh"?,"public_keys"?,"announce"?}`), answers
//! and notices.

use std::collections::BTreeMap;

use bytes::{BufMut, BytesMut};
use serde_json::Value;

use super::errors::wrong;
use crate::{
    error::ReplyError,
    json::{self, Object, Raw},
    limits::NAME_BYTES,
    publication::{UserCard, UserChange, UserState, UserValue},
};

const VALUES: &str =
    "state and fresh must be objects whose values are strings, numbers, true, false or null.";
const KEYS: &str = "public_keys must be a list of strings of 1 to 256 bytes.";
const ANNOUNCE: &str = "announce must be true or false.";

/// Reads a change, and whether members are told.
pub(super) fn read_user(object: &Object<'_, '_>) -> Result<(UserChange, bool), ReplyError> {
    let change = UserChange {
        values: object.given("state").map_or(Ok(Vec::new()), values)?,
        fresh: object.given("fresh").map_or(Ok(Vec::new()), values)?,
        public_keys: object.given("public_keys").map(keys).transpose()?,
    };
    let announce = object.given("announce").map_or(Some(true), Raw::as_bool).ok_or(wrong(ANNOUNCE))?;
    Ok((change, announce))
}

/// Appends the answer to a change of a user's state.
pub(super) fn put_user_outcome(
    out: &mut BytesMut,
    user: &str,
    state: Option<&UserState>,
    changed: &[Box<str>],
) {
    out.extend_from_slice(b"{\"user\":");
    json::write_string(out, user);
    out.extend_from_slice(b",\"state\":");
    put_values(out, state.into_iter().flat_map(UserState::values));
    out.extend_from_slice(b",\"public_keys\":");
    put_keys(out, state.into_iter().flat_map(UserState::public_keys));
    out.extend_from_slice(b",\"changed\":");
    put_keys(out, changed);
}

/// Appends the payload of a notice about a user: `{"user","state"?,"changed"?,"users"?}`. A state shows its
/// public part.
pub(super) fn put_user(out: &mut BytesMut, card: &UserCard) {
    out.extend_from_slice(b"{\"user\":");
    json::write_string(out, &card.user);
    put_state(out, card.state.as_deref());
    if !card.changed.is_empty() {
        let is_public = |key: &str| card.state.as_ref().is_some_and(|state| state.is_public(key));
        out.extend_from_slice(b",\"changed\":");
        put_keys(out, card.changed.iter().filter(|key| is_public(key)));
    }
    if let Some(users) = &card.users {
        out.extend_from_slice(b",\"users\":");
        json::write_array(out, users, |out, (user, state)| {
            out.extend_from_slice(b"{\"user\":");
            json::write_string(out, user);
            put_state(out, state.as_deref());
            out.put_u8(b'}');
        });
    }
    out.put_u8(b'}');
}

fn put_state(out: &mut BytesMut, state: Option<&UserState>) {
    let Some(state) = state else { return };
    out.extend_from_slice(b",\"state\":");
    put_values(out, state.public());
}

fn put_values<'v>(out: &mut BytesMut, values: impl Iterator<Item = (&'v str, &'v str)>) {
    out.put_u8(b'{');
    for (at, (key, value)) in values.enumerate() {
        if at > 0 {
            out.put_u8(b',');
        }
        json::write_string(out, key);
        out.put_u8(b':');
        out.extend_from_slice(value.as_bytes());
    }
    out.put_u8(b'}');
}

fn put_keys<'k>(out: &mut BytesMut, keys: impl IntoIterator<Item = &'k Box<str>>) {
    json::write_array(out, keys, |out, key| json::write_string(out, key));
}

fn values(raw: Raw<'_>) -> Result<Vec<UserValue>, ReplyError> {
    let values: BTreeMap<String, Value> = serde_json::from_str(raw.as_str()).map_err(|_| wrong(VALUES))?;
    let value = |(key, value): (String, Value)| {
        let fits = is_key(&key) && !value.is_object() && !value.is_array();
        fits.then(|| (Box::from(key), value.to_string().into())).ok_or(wrong(VALUES))
    };
    values.into_iter().map(value).collect()
}

fn keys(raw: Raw<'_>) -> Result<Vec<Box<str>>, ReplyError> {
    let keys: Vec<String> = serde_json::from_str(raw.as_str()).map_err(|_| wrong(KEYS))?;
    keys.into_iter().map(|key| if is_key(&key) { Ok(key.into()) } else { Err(wrong(KEYS)) }).collect()
}

fn is_key(key: &str) -> bool {
    (1..=NAME_BYTES).contains(&key.len())
}
