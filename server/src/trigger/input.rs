//! The input of triggers as JSON.

use std::fmt::Write;

use bytes::BytesMut;
use fanfare_core::{
    dialect::xano::{put_trigger_client, put_trigger_options},
    json::write_string,
    publication::Audience,
    trigger::{TriggerClient, TriggerInput, TriggerKind},
};

/// Writes the input of a trigger without the payload: an open object, `{"action":…,"options":{…}`.
pub(crate) fn put_head(out: &mut BytesMut, app: &str, input: &TriggerInput) {
    let (action, kind) = match input.kind {
        TriggerKind::Message => ("message", "message"),
        TriggerKind::Edit => ("message", "edit"),
        TriggerKind::Join => ("join", "join"),
    };
    put(
        out,
        format_args!(
            "{{\"action\":\"{action}\",\"command\":\"{action}\",\"kind\":\"{kind}\",\"app\":\"{app}\""
        ),
    );
    put(out, format_args!(",\"time\":{}", input.time_ms));
    put_text(out, ",\"channel\":", input.channel.as_deref());
    if input.kind == TriggerKind::Message {
        put_text(out, ",\"event\":", Some(&input.event));
    }
    if let Some(id) = input.message_id {
        out.extend_from_slice(b",\"messageId\":\"");
        out.extend_from_slice(&id.text());
        out.extend_from_slice(b"\"");
    }
    out.extend_from_slice(b",\"client\":");
    match &input.client {
        Some(client) => put_client(out, client),
        None => out.extend_from_slice(b"null"),
    }
    for name in [",\"options\":", ",\"commandOptions\":"] {
        out.extend_from_slice(name.as_bytes());
        put_options(out, input);
    }
}

fn put_client(out: &mut BytesMut, client: &TriggerClient) {
    put(out, format_args!("{{\"id\":\"{}\",", client.session));
    let TriggerClient { session, user, profile, .. } = client;
    put_trigger_client(out, *session, user.as_deref(), profile.as_deref());
    put_text(out, ",\"user\":", user.as_deref());
    out.extend_from_slice(b",\"profile\":");
    out.extend_from_slice(profile.as_deref().unwrap_or("null").as_bytes());
    out.extend_from_slice(b",\"claims\":");
    match &client.user {
        Some(user) => {
            put_text(out, "{\"sub\":", Some(user));
            if let Some(end) = client.expires_at {
                put(out, format_args!(",\"exp\":{end}"));
            }
            out.extend_from_slice(b"}");
        }
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b"}");
}

fn put_options(out: &mut BytesMut, input: &TriggerInput) {
    put_text(out, "{\"channel\":", input.channel.as_deref());
    out.extend_from_slice(b",");
    put_trigger_options(out, input.audience.as_deref());
    put(out, format_args!(",\"echo\":{}", input.echo));
    if input.kind == TriggerKind::Message {
        put(out, format_args!(",\"history\":{}", input.history));
    }
    if let Some(audience) = &input.audience {
        put_audience(out, audience);
    }
    out.extend_from_slice(b"}");
}

fn put_audience(out: &mut BytesMut, audience: &Audience) {
    if let Some(session) = audience.only_session {
        put(out, format_args!(",\"to_session\":\"{session}\""));
    }
    for (name, users) in [("to_users", &audience.only_users), ("except_users", &audience.except_users)] {
        let Some(users) = users else { continue };
        put(out, format_args!(",\"{name}\":["));
        for (at, user) in users.iter().enumerate() {
            out.extend_from_slice(if at > 0 { b"," } else { b"" });
            write_string(out, user);
        }
        out.extend_from_slice(b"]");
    }
}

fn put_text(out: &mut BytesMut, name: &str, text: Option<&str>) {
    out.extend_from_slice(name.as_bytes());
    match text {
        Some(text) => write_string(out, text),
        None => out.extend_from_slice(b"null"),
    }
}

fn put(out: &mut BytesMut, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("memory takes what is written");
}
