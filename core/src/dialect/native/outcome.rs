//! Outcomes and errors as JSON: the `ok` and `error` of an answer, and the bodies of HTTP responses.

use core::net::IpAddr;
use std::iter;

use bytes::{BufMut, BytesMut};

use super::{
    encode::{id_member, put_base64, put_more},
    errors::{REFUSED, code, message},
    options::put_options,
    put::{put_bool, put_number, put_optional_number},
    users::put_user_outcome,
};
use crate::{
    channel::{HistoryItem, Position},
    command::{Outcome, Recovery, UserSession, Watched},
    error::ReplyError,
    id::SessionId,
    json,
    publication::{IdentityCard, Payload},
    ws,
};

/// Writes a message of a page of history: `{"event","message","offset","id","time_ms"}` and the optional
/// members.
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
            out.extend_from_slice(b",\"messages\":");
            json::write_array(out, &page.messages, put_remembered);
            out.extend_from_slice(b",\"next\":");
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
        Outcome::Updated | Outcome::Done | Outcome::Judged(_) => out.put_u8(b'{'),
        Outcome::Members(page) => {
            out.extend_from_slice(b"{\"channel\":");
            json::write_string(out, &page.channel);
            put_number(out, ",\"total\":", page.total as u64);
            out.extend_from_slice(b",\"members\":");
            let addresses = page.addresses.as_deref().unwrap_or_default();
            let addresses = addresses.iter().copied().chain(iter::repeat(None));
            json::write_array(out, page.members.iter().zip(addresses), |out, (member, address)| {
                put_identity(out, member.id, member.user.as_deref(), member.profile.as_deref());
                put_address(out, address);
                out.put_u8(b'}');
            });
            out.extend_from_slice(b",\"next\":");
            json::write_optional_string(out, page.next.map(|next| next.text()).as_deref());
        }
        Outcome::AllMembers(members) => {
            out.extend_from_slice(b"{\"members\":");
            json::write_array(out, members, put_member);
        }
        Outcome::Roster(roster) => {
            out.extend_from_slice(b"{\"channel\":");
            json::write_string(out, &roster.channel);
            put_number(out, ",\"total\":", roster.total as u64);
            out.extend_from_slice(b",\"members\":");
            json::write_array(out, &roster.members, |out, member| put_member(out, member));
        }
        Outcome::User { user, state, changed } => put_user_outcome(out, user, state.as_deref(), changed),
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
            out.extend_from_slice(b",\"users\":");
            json::write_array(out, &page.users, |out, (user, sessions)| {
                out.extend_from_slice(b"{\"user\":");
                json::write_string(out, user);
                put_number(out, ",\"sessions\":", u64::from(*sessions));
                out.put_u8(b'}');
            });
            out.extend_from_slice(b",\"next\":");
            json::write_optional_string(out, page.next.as_deref());
        }
        Outcome::Options { channel, options } => {
            out.extend_from_slice(b"{\"channel\":");
            json::write_string(out, channel);
            put_options(out, options);
        }
        Outcome::Sessions(page) => {
            out.put_u8(b'{');
            if let Some(user) = &page.user {
                out.extend_from_slice(b"\"user\":");
                json::write_string(out, user);
                out.put_u8(b',');
            }
            out.extend_from_slice(b"\"sessions\":");
            json::write_array(out, &page.sessions, put_session);
            out.extend_from_slice(b",\"next\":");
            json::write_optional_string(out, page.next.map(|next| next.text()).as_deref());
        }
        Outcome::Watched(watched) => put_watched(out, watched),
        Outcome::Channels(page) => {
            out.extend_from_slice(b"{\"channels\":");
            json::write_array(out, &page.channels, |out, (name, members)| {
                out.extend_from_slice(b"{\"channel\":");
                json::write_string(out, name);
                put_number(out, ",\"members\":", *members as u64);
                out.put_u8(b'}');
            });
            out.extend_from_slice(b",\"next\":");
            json::write_optional_string(out, page.next.as_deref());
        }
        Outcome::Refused(why) => return put_refused(out, why),
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

/// Appends the error of a command that a trigger refused.
pub(super) fn put_refused(out: &mut BytesMut, why: &str) {
    out.extend_from_slice(b"{\"code\":\"");
    out.extend_from_slice(REFUSED.as_bytes());
    out.extend_from_slice(b"\",\"message\":");
    json::write_string(out, why);
    out.put_u8(b'}');
}

/// A member as JSON: `{"id","user"?,"data"?}`.
pub(super) fn put_member(out: &mut BytesMut, member: &IdentityCard) {
    put_identity(out, member.id, member.user.as_deref(), member.profile.as_deref());
    out.put_u8(b'}');
}

/// The member `address` of a member or session whose address is known.
fn put_address(out: &mut BytesMut, address: Option<IpAddr>) {
    if let Some(address) = address {
        out.extend_from_slice(b",\"address\":\"");
        out.extend_from_slice(address.to_string().as_bytes());
        out.put_u8(b'"');
    }
}

/// A member without the closing brace.
fn put_identity(out: &mut BytesMut, id: SessionId, user: Option<&str>, profile: Option<&str>) {
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

/// Writes samples: `{"messages":[{"number","frame"}],"next","offset"`. A frame that is too long is `null`.
fn put_watched(out: &mut BytesMut, watched: &Watched) {
    out.extend_from_slice(b"{\"messages\":");
    json::write_array(out, &watched.samples, |out, sample| {
        put_number(out, "{\"number\":", sample.number);
        out.extend_from_slice(b",\"frame\":");
        let text = sample.frame.as_deref().and_then(ws::sent_payload);
        out.extend_from_slice(text.unwrap_or(b"null"));
        out.put_u8(b'}');
    });
    put_number(out, ",\"next\":", watched.next);
    put_number(out, ",\"offset\":", watched.offset);
}

/// Writes a session: `{"id","user"?,"data"?,"channels"}`.
fn put_session(out: &mut BytesMut, session: &UserSession) {
    put_identity(out, session.id, session.user.as_deref(), session.profile.as_deref());
    out.extend_from_slice(b",\"channels\":");
    json::write_array(out, &session.channels, |out, name| json::write_string(out, name));
    put_address(out, session.address);
    out.put_u8(b'}');
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
