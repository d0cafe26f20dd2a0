//! The HTTP request of Xano's back ends: an event for a channel's members, or for one user's sessions in the
//! channel.

use std::borrow::Cow;

use super::encode::{EVENT, Row};
use crate::{
    command::{BackEndCommand, Publish},
    error::ReplyError,
    json::{Document, Object, Raw, Scanner},
    publication::{Audience, Payload},
};

/// The path to which back ends post events.
pub const EVENT_PATH: &str = "/v1/xano/event";

/// The path of the settings for Xano's clients.
pub const SETTINGS_PATH: &str = "/v1/xano/settings";

/// Calls `each` with the command in the body of a request: `{channel, data, dbo_id?, row_id?}`.
///
/// # Errors
/// If the body does not have this form.
pub fn read_event(body: &[u8], each: &mut dyn FnMut(BackEndCommand<'_>)) -> Result<(), ReplyError> {
    let text = std::str::from_utf8(body).map_err(|_| ReplyError::MalformedJson)?;
    let mut scanner = Scanner::new();
    let Document::Object(object) = scanner.scan(text).map_err(|_| ReplyError::MalformedJson)? else {
        return Err(ReplyError::InvalidCommand("The body must be an object."));
    };
    let channel = object.member("channel").and_then(Raw::as_string);
    let channel: Cow<'_, str> = channel.ok_or(ReplyError::InvalidCommand("channel must be a string."))?;
    let data = object.member("data").map_or(Payload::NULL, |data| Payload::Json(data.as_str()));
    let row = Row { table: id(object, "dbo_id")?, row: id(object, "row_id")? };
    let audience = match row {
        Row { table: 0, row: 0 } => None,
        Row { table: 0, .. } | Row { row: 0, .. } => {
            return Err(ReplyError::InvalidCommand("dbo_id and row_id are given together."));
        }
        row => Some(Box::new(Audience { only_users: Some([row.user()].into()), ..Audience::default() })),
    };
    let publish = Publish::new(Some(&channel), EVENT, data);
    // The protocol's history has no events.
    each(BackEndCommand::publish(Publish { history: false, audience, ..publish }));
    Ok(())
}

/// Reads an id, which is a number or its digits in a string; 0 if the id is missing.
fn id(object: Object<'_, '_>, name: &str) -> Result<u64, ReplyError> {
    let Some(id) = object.given(name) else { return Ok(0) };
    let digits = id.as_string().unwrap_or(Cow::Borrowed(id.as_str()));
    Row::number(&digits).ok_or(ReplyError::InvalidCommand("dbo_id and row_id are numbers below 2^53."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<String, ReplyError> {
        let mut read = String::new();
        read_event(body.as_bytes(), &mut |command| {
            let BackEndCommand::Publish { publish, .. } = command else { panic!("it publishes") };
            let users = publish.audience.as_ref().and_then(|audience| audience.only_users.clone());
            read = format!("{:?} {:?} {users:?}", publish.channel, publish.payload);
        })?;
        Ok(read)
    }

    #[test]
    fn an_event_is_for_everybody_or_for_one_row() {
        let everybody = Ok(String::from(r#"Some("c") Json("[1]") None"#));
        for ids in ["", r#","dbo_id":null"#, r#","dbo_id":0,"row_id":"0""#] {
            assert_eq!(read(&format!(r#"{{"channel":"c","data":[1]{ids}}}"#)), everybody, "{ids}");
        }
        let one = Ok(String::from(r#"Some("c") Json("null") Some(["7:42"])"#));
        for ids in [r#""dbo_id":7,"row_id":42"#, r#""dbo_id":"7","row_id":"42""#] {
            assert_eq!(read(&format!(r#"{{"channel":"c",{ids}}}"#)), one, "{ids}");
        }
    }

    #[test]
    fn what_is_no_event_is_refused() {
        for body in ["", "[]", "1", "{}", r#"{"channel":1}"#, "{\"channel\":\"c\"} x"] {
            assert!(read(body).is_err(), "{body}");
        }
        for ids in [r#""dbo_id":1"#, r#""row_id":1"#, r#""dbo_id":1,"row_id":0"#, r#""dbo_id":-1,"row_id":1"#]
        {
            assert!(read(&format!(r#"{{"channel":"c",{ids}}}"#)).is_err(), "{ids}");
        }
        for id in ["1.5", "1e3", "9007199254740992", "01", "\"x\"", "[]", "true", "\"\""] {
            assert!(read(&format!(r#"{{"channel":"c","dbo_id":{id},"row_id":1}}"#)).is_err(), "{id}");
        }
    }
}
