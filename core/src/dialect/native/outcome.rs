//! Outcomes and errors as JSON: the `ok` and `error` of an answer, and the bodies of HTTP responses.

use bytes::{BufMut, BytesMut};

use super::{
    encode::{id_member, put_base64, put_more, put_separated, put_values},
    errors::{code, message},
    options::put_options,
    put::{put_bool, put_number, put_optional_number, put_optional_string},
};
use crate::{
    channel::{HistoryItem, Position},
    command::{Outcome, Recovery, UserSession},
    error::ReplyError,
    json,
    publication::{IdentityCard, Payload},
};

/// A message of a page of history: `{"event","message","offset","id","time_ms"}` and the optional members.
fn put_remembered(out: &mut BytesMut, remembered: &HistoryItem) {
    let publication = remembered.view();
    out.extend_from_slice(b"{\"event\":");
    json::write_string(out, publication.event());
    out.extend_from_slice(b",\"message\":");
    match publication.payload() {
        Payload::Json(json) => out.extend_from_slice(json.as_bytes()),
        Payload::Binary(bytes) => put_base64(out, bytes),
    }
    put_number(out, ",\"offset\":", remembered.offset());
    out.extend_from_slice(&id_member(publication.id));
    put_more(out, &publication);
    put_number(out, ",\"time_ms\":", publication.time_ms());
    out.put_u8(b'}');
}

/// An outcome as JSON: the `ok` of an answer, or the body of an HTTP response.
pub(super) fn put_outcome(out: &mut BytesMut, outcome: &Outcome) {
    match outcome {
        Outcome::Joined { channel, joined, members, position, recovery } => {
            out.extend_from_slice(b"{\"channel\":");
            json::write_string(out, channel);
            put_bool(out, ",\"joined\":", *joined);
            put_number(out, ",\"members\":", *members as u64);
            put_position(out, Some(*position));
            match recovery {
                Recovery::NotAsked => {}
                Recovery::Lost => out.extend_from_slice(b",\"recovered\":false,\"missed\":0"),
                Recovery::Recovered(missed) => {
                    put_number(out, ",\"recovered\":true,\"missed\":", missed.len() as u64);
                }
            }
        }
        Outcome::History { channel, position, page } => {
            out.extend_from_slice(b"{\"channel\":");
            json::write_string(out, channel);
            put_position(out, *position);
            out.extend_from_slice(b",\"messages\":[");
            for (at, message) in page.messages.iter().enumerate() {
                if at > 0 {
                    out.put_u8(b',');
                }
                put_remembered(out, message);
            }
            out.extend_from_slice(b"],\"next\":");
            put_optional_number(out, page.next);
        }
        Outcome::Left { channel, left } => {
            out.extend_from_slice(b"{\"channel\":");
            json::write_string(out, channel);
            put_bool(out, ",\"left\":", *left);
        }
        Outcome::Sent { message_id, offset } => {
            out.extend_from_slice(b"{\"message_id\":\"");
            out.extend_from_slice(&message_id.text());
            out.extend_from_slice(b"\",\"offset\":");
            put_optional_number(out, *offset);
        }
        Outcome::Broadcast { message_id } => {
            out.extend_from_slice(b"{\"message_id\":\"");
            out.extend_from_slice(&message_id.text());
            out.put_u8(b'"');
        }
        Outcome::Updated | Outcome::Done => out.put_u8(b'{'),
        Outcome::Members(page) => {
            out.extend_from_slice(b"{\"channel\":");
            json::write_string(out, &page.channel);
            put_number(out, ",\"total\":", page.total as u64);
            out.extend_from_slice(b",\"members\":[");
            for (at, member) in page.members.iter().enumerate() {
                if at > 0 {
                    out.put_u8(b',');
                }
                put_member(out, member);
            }
            out.extend_from_slice(b"],\"next\":");
            put_optional_string(out, page.next.map(|next| next.text()).as_deref());
        }
        Outcome::AllMembers(members) => {
            out.extend_from_slice(b"{\"members\":[");
            for (at, member) in members.iter().enumerate() {
                if at > 0 {
                    out.put_u8(b',');
                }
                put_member(out, member);
            }
            out.put_u8(b']');
        }
        Outcome::Roster(roster) => {
            out.extend_from_slice(b"{\"channel\":");
            json::write_string(out, &roster.channel);
            put_number(out, ",\"total\":", roster.total as u64);
            out.extend_from_slice(b",\"members\":[");
            for (at, member) in roster.members.iter().enumerate() {
                if at > 0 {
                    out.put_u8(b',');
                }
                put_member(out, member);
            }
            out.put_u8(b']');
        }
        Outcome::User { user, state, changed } => {
            out.extend_from_slice(b"{\"user\":");
            json::write_string(out, user);
            out.extend_from_slice(b",\"state\":");
            put_values(out, state.iter().flat_map(|state| state.values()));
            out.extend_from_slice(b",\"public_keys\":[");
            let public = state.iter().flat_map(|state| state.public_keys());
            put_separated(out, public, |out, key| json::write_string(out, key));
            out.extend_from_slice(b"],\"changed\":[");
            put_separated(out, changed.iter(), |out, key| json::write_string(out, key));
            out.put_u8(b']');
        }
        Outcome::Session { user, expires_at } => {
            out.extend_from_slice(b"{\"user\":");
            json::write_string(out, user);
            out.extend_from_slice(b",\"expires_at\":");
            put_optional_number(out, *expires_at);
        }
        Outcome::Pong { time_ms } => put_number(out, "{\"time_ms\":", *time_ms),
        Outcome::Users(page) => {
            out.extend_from_slice(b"{\"channel\":");
            json::write_string(out, &page.channel);
            put_number(out, ",\"total\":", page.total as u64);
            out.extend_from_slice(b",\"users\":[");
            for (at, (user, sessions)) in page.users.iter().enumerate() {
                out.extend_from_slice(if at > 0 { b",{\"user\":" } else { b"{\"user\":" });
                json::write_string(out, user);
                put_number(out, ",\"sessions\":", u64::from(*sessions));
                out.put_u8(b'}');
            }
            out.extend_from_slice(b"],\"next\":");
            put_optional_string(out, page.next.as_deref());
        }
        Outcome::Options { channel, options } => {
            out.extend_from_slice(b"{\"channel\":");
            json::write_string(out, channel);
            put_options(out, options);
        }
        Outcome::Sessions(page) => {
            out.extend_from_slice(b"{\"user\":");
            json::write_string(out, &page.user);
            out.extend_from_slice(b",\"sessions\":[");
            for (at, session) in page.sessions.iter().enumerate() {
                if at > 0 {
                    out.put_u8(b',');
                }
                put_session(out, session);
            }
            out.extend_from_slice(b"],\"next\":");
            put_optional_string(out, page.next.map(|next| next.text()).as_deref());
        }
        Outcome::Channels(page) => {
            out.extend_from_slice(b"{\"channels\":[");
            for (at, (name, members)) in page.channels.iter().enumerate() {
                out.extend_from_slice(if at > 0 { b",{\"channel\":" } else { b"{\"channel\":" });
                json::write_string(out, name);
                put_number(out, ",\"members\":", *members as u64);
                out.put_u8(b'}');
            }
            out.extend_from_slice(b"],\"next\":");
            put_optional_string(out, page.next.as_deref());
        }
        Outcome::Disconnected { sessions } => put_number(out, "{\"disconnected\":", *sessions as u64),
    }
    out.put_u8(b'}');
}

/// An error as JSON: `{"code","message"}`.
pub(super) fn put_error(out: &mut BytesMut, error: ReplyError) {
    out.extend_from_slice(b"{\"code\":\"");
    out.extend_from_slice(code(error).as_bytes());
    out.extend_from_slice(b"\",\"message\":");
    json::write_string(out, message(error));
    out.put_u8(b'}');
}

/// A member as JSON: `{"id","user"?,"data"?}`.
pub(super) fn put_member(out: &mut BytesMut, member: &IdentityCard) {
    put_identity(out, member);
    out.put_u8(b'}');
}

/// A member without the closing brace.
fn put_identity(out: &mut BytesMut, IdentityCard { id, user, profile }: &IdentityCard) {
    out.extend_from_slice(b"{\"id\":\"");
    out.extend_from_slice(&id.text());
    out.put_u8(b'"');
    if let Some(user) = user {
        out.extend_from_slice(b",\"user\":");
        json::write_string(out, user);
    }
    if let Some(profile) = profile {
        out.extend_from_slice(b",\"data\":");
        out.extend_from_slice(profile.as_bytes());
    }
}

/// `{"id","data"?,"channels"}`.
fn put_session(out: &mut BytesMut, session: &UserSession) {
    put_identity(out, &IdentityCard { id: session.id, user: None, profile: session.profile.clone() });
    out.extend_from_slice(b",\"channels\":[");
    for (at, name) in session.channels.iter().enumerate() {
        if at > 0 {
            out.put_u8(b',');
        }
        json::write_string(out, name);
    }
    out.extend_from_slice(b"]}");
}

fn put_position(out: &mut BytesMut, position: Option<Position>) {
    match position {
        Some(position) => {
            out.extend_from_slice(format!(",\"epoch\":\"{:016x}\"", position.epoch).as_bytes());
            put_number(out, ",\"offset\":", position.offset);
        }
        None => out.extend_from_slice(b",\"epoch\":null,\"offset\":0"),
    }
}
