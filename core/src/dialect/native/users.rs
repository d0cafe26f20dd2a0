//! What a back end says of a user: `{"state"?,"fresh"?,"public_keys"?,"announce"?}`.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    error::ReplyError,
    json::{Object, Raw},
    limits::NAME_BYTES,
    publication::{UserChange, UserValue},
};

const VALUES: &str =
    "state and fresh must be objects whose values are strings, numbers, true, false or null.";
const KEYS: &str = "public_keys must be a list of strings of 1 to 256 bytes.";
const ANNOUNCE: &str = "announce must be true or false.";

/// A change, and whether members are told.
pub(super) fn read_user(object: &Object<'_, '_>) -> Result<(UserChange, bool), ReplyError> {
    let given = |name| object.member(name).filter(|raw: &Raw<'_>| !raw.is_null());
    let change = UserChange {
        values: given("state").map_or(Ok(Vec::new()), values)?,
        fresh: given("fresh").map_or(Ok(Vec::new()), values)?,
        public_keys: given("public_keys").map(keys).transpose()?,
    };
    let announce = given("announce").map_or(Some(true), Raw::as_bool).ok_or(wrong(ANNOUNCE))?;
    Ok((change, announce))
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

fn wrong(sentence: &'static str) -> ReplyError {
    ReplyError::InvalidCommand(sentence)
}
