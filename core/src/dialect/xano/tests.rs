//! Transcripts: a client's bytes, and the frames that it and other clients receive.

use bytes::BytesMut;

use super::*;
use crate::{
    app::{App, AppKeys, Apps, Who, XanoChannel, XanoOptions},
    dialect::{
        self, Format,
        tests::{Room, claims, frames},
    },
    disconnect::Disconnect,
    engine::Flow,
    publication::Payload,
    token::{Claims, TokenError},
    ws::Message,
};

fn app() -> App {
    let mut app = App::new("default", AppKeys::default());
    let mut options = XanoOptions::new("canonical");
    let open = |pattern| XanoChannel {
        anonymous_clients: true,
        public_messaging: Who::Anybody,
        private_messaging: Who::Anybody,
        ..XanoChannel::new(pattern)
    };
    options.channels = vec![XanoChannel { presence: true, history: 10, ..open("c") }, open("d")];
    for channel in &options.channels {
        app.rules.extend(channel.rules(app.default_options()));
    }
    App { xano: Some(options), ..app }
}

/// A format, a user and a profile.
type Visitor<'a> = (Format, Option<&'a str>, Option<&'a str>);

const XANO: usize = 0;
const ANONYMOUS: usize = 1;
const NATIVE: usize = 2;

const VISITORS: [Visitor<'_>; 3] = [
    (Format::XanoFrames, Some("7:42"), Some(r#"{"name":"Leia"}"#)),
    (Format::XanoFrames, None, None),
    (Format::Native, Some("luke"), Some("[1]")),
];

fn room_of(app: App) -> Room {
    let mut room = Room::of(app);
    for (format, user, profile) in VISITORS {
        room.open(format, Some(true), user.map(|user| claims(user, profile)));
    }
    room
}

fn room() -> Room {
    room_of(app())
}

const JOIN: &str =
    r#"{"action":"join","options":{"channel":"c"},"payload":{"history":false,"presence":false}}"#;

fn answer(action: &str, payload: &str) -> String {
    format!(r#"{{"action":"{action}","client":null,"options":{{"channel":"c"}},"payload":{payload}}}"#)
}

fn message(client: &str, payload: &str) -> String {
    let options = r#"{"channel":"c","authenticated":false,"socketId":null}"#;
    format!(r#"{{"action":"message","client":{client},"options":{options},"payload":{payload}}}"#)
}

#[test]
fn membership_and_messages_are_byte_for_byte_those_of_the_protocol() {
    let mut room = room();
    for session in [XANO, ANONYMOUS] {
        room.send_and_wait(session, JOIN);
        assert_eq!(room.received(session), [answer("join", "null")]);
    }
    room.send_and_wait(NATIVE, r#"{"type":"join","channel":"c"}"#);
    room.forget();
    let ids = room.ids.clone();
    room.send_and_wait(XANO, r#"{"action":"message","options":{"channel":"c"},"payload":{"a": "ä"}}"#);
    room.send_and_wait(ANONYMOUS, r#"{"action":"message","options":{"socketId":null,"channel":"\u0063"}}"#);
    room.send_and_wait(NATIVE, r#"{"type":"send","channel":"c","event":"message","message":[1]}"#);
    room.send_and_wait(NATIVE, r#"{"type":"send","channel":"c","event":"e","message":1}"#);
    let client = |session: usize, extras: &str, permissions: &str| {
        format!(r#"{{"socketId":"{}","extras":{extras},"permissions":{permissions}}}"#, ids[session])
    };
    let leia = client(XANO, r#"{"name":"Leia"}"#, r#"{"dbo_id":7,"row_id":42}"#);
    let nobody = client(ANONYMOUS, "{}", r#"{"dbo_id":0,"row_id":0}"#);
    let luke = client(NATIVE, r#"{"profile":[1]}"#, r#"{"dbo_id":0,"row_id":0}"#);
    let expected = [
        message(&leia, r#"{"a": "ä"}"#),
        message(&nobody, "null"),
        message(&luke, "[1]"),
        message(&luke, r#"{"event":"e","message":1}"#),
    ];
    assert_eq!(room.received(XANO), expected);
    assert_eq!(room.received(ANONYMOUS), expected);
    let native = room.received(NATIVE);
    assert!(native[0].starts_with(r#"{"channel":"c","event":"message","message":{"a": "ä"}"#), "{native:?}");
    room.send_and_wait(XANO, r#"{"action":"leave","options":{"channel":"c"},"payload":null}"#);
    room.send_and_wait(XANO, r#"{"action":"leave","options":{"channel":"c"},"payload":null}"#);
    assert_eq!(room.received(XANO), [answer("leave", "null"), answer("leave", "null")]);
    room.send_and_wait(XANO, r#"{"action":"message","options":{"channel":"c"},"payload":1}"#);
    let refused = r#"{"message":"Only clients that have joined the channel can do this."}"#;
    assert_eq!(room.received(XANO), [answer("error", refused)]);
    assert_eq!(room.received(ANONYMOUS), Vec::<String>::new());
}

fn viewing(history: bool, presence: bool) -> String {
    let payload = format!(r#"{{"history":{history},"presence":{presence}}}"#);
    format!(r#"{{"action":"join","options":{{"channel":"c"}},"payload":{payload}}}"#)
}

#[test]
fn a_client_that_asks_is_shown_who_is_there_and_then_who_comes_and_goes() {
    let mut room = room();
    let client = |session: usize, extras: &str, permissions: &str| {
        format!(r#"{{"socketId":"{}","extras":{extras},"permissions":{permissions}}}"#, room.ids[session])
    };
    let leia = client(XANO, r#"{"name":"Leia"}"#, r#"{"dbo_id":7,"row_id":42}"#);
    let nobody = client(ANONYMOUS, "{}", r#"{"dbo_id":0,"row_id":0}"#);
    let luke = client(NATIVE, r#"{"profile":[1]}"#, r#"{"dbo_id":0,"row_id":0}"#);
    let full =
        |members: &[&str]| answer("presence_full", &format!(r#"{{"presence":[{}]}}"#, members.join(",")));
    let update = |action: &str, of: &str| {
        answer("presence_update", &format!(r#"{{"action":"{action}","presence":{of}}}"#))
    };
    room.send_and_wait(XANO, &viewing(false, true));
    assert_eq!(room.received(XANO), [answer("join", "null"), full(&[&leia])]);
    room.send_and_wait(NATIVE, r#"{"type":"join","channel":"c","echo":false}"#);
    room.send_and_wait(ANONYMOUS, &viewing(true, true));
    assert_eq!(room.received(XANO), [update("join", &luke), update("join", &nobody)]);
    let shown =
        [answer("join", "null"), full(&[&leia, &nobody, &luke]), answer("history", r#"{"history":[]}"#)];
    assert_eq!(room.received(ANONYMOUS), shown);
    // A second join adds no member.
    room.send_and_wait(ANONYMOUS, &viewing(false, true));
    assert_eq!(room.received(ANONYMOUS), [answer("join", "null"), full(&[&leia, &nobody, &luke])]);
    assert_eq!(room.received(XANO), Vec::<String>::new());
    room.send_and_wait(NATIVE, r#"{"type":"leave","channel":"c","echo":false}"#);
    room.send_and_wait(XANO, r#"{"action":"leave","options":{"channel":"c"}}"#);
    assert_eq!(room.received(ANONYMOUS), [update("leave", &luke), update("leave", &leia)]);
    assert_eq!(room.received(XANO), [update("leave", &luke), answer("leave", "null")]);
}

/// The actions of frames.
fn actions(frames: &[String]) -> Vec<String> {
    frames.iter().map(|frame| frame.split('"').nth(3).unwrap_or_default().into()).collect()
}

#[test]
fn a_client_that_does_not_ask_is_told_of_nobody_until_it_asks() {
    let mut room = room();
    room.send_and_wait(XANO, &viewing(false, false));
    room.send_and_wait(ANONYMOUS, &viewing(false, true));
    room.forget();
    room.send_and_wait(NATIVE, r#"{"type":"join","channel":"c"}"#);
    room.send_and_wait(NATIVE, r#"{"type":"send","channel":"c","event":"message","message":1}"#);
    assert_eq!(actions(&room.received(XANO)), ["message"]);
    assert_eq!(actions(&room.received(ANONYMOUS)), ["presence_update", "message"]);
    room.send_and_wait(XANO, &viewing(false, true));
    room.send_and_wait(NATIVE, r#"{"type":"leave","channel":"c"}"#);
    assert_eq!(actions(&room.received(XANO)), ["join", "presence_full", "presence_update"]);
    // The channel `d` has no presence, even for a client that asks for presence.
    room.send_and_wait(XANO, &viewing(false, true).replace("\"c\"", "\"d\""));
    assert_eq!(actions(&room.received(XANO)), ["join"]);
}

#[test]
fn a_client_that_joins_is_shown_what_was_said_before() {
    let mut room = room();
    room.send_and_wait(XANO, JOIN);
    (0..12).for_each(|n| {
        room.send_and_wait(
            XANO,
            &format!(r#"{{"action":"message","options":{{"channel":"c"}},"payload":{n}}}"#),
        );
    });
    let live = room.received(XANO);
    room.send_and_wait(ANONYMOUS, &viewing(true, false));
    let history = format!(r#"{{"history":[{}]}}"#, live[3..].join(","));
    assert_eq!(room.received(ANONYMOUS), [answer("join", "null"), answer("history", &history)]);
}

/// A room whose channel has these settings, with two clients: one with a token, one without.
fn ruled(change: impl Fn(&mut XanoChannel)) -> Room {
    let mut app = app();
    let mut row = XanoChannel::new("ruled");
    change(&mut row);
    app.rules.extend(row.rules(app.default_options()));
    app.xano.as_mut().expect("it has them").channels.push(row);
    let mut room = room_of(app);
    for session in [XANO, ANONYMOUS, NATIVE] {
        let join = match session {
            NATIVE => r#"{"type":"join","channel":"ruled"}"#,
            _ => r#"{"action":"join","options":{"channel":"ruled"},"payload":{}}"#,
        };
        room.send_and_wait(session, join);
    }
    room
}

/// The result of this session's message: its receivers, or the reason of its refusal.
fn sent(room: &mut Room, session: usize, options: &str) -> String {
    let options = options.replace("XANO", &room.ids[XANO]).replace("ANON", &room.ids[ANONYMOUS]);
    room.forget();
    room.send_and_wait(
        session,
        &format!(r#"{{"action":"message","options":{{"channel":"ruled"{options}}},"payload":1}}"#),
    );
    let frames = [room.received(XANO), room.received(ANONYMOUS)];
    let error = frames[session].iter().find(|frame| frame.contains("\"error\""));
    if let Some(error) = error {
        return error.split("\"message\":\"").nth(1).unwrap_or_default().trim_end_matches("\"}}").into();
    }
    let shown = frames
        .iter()
        .flatten()
        .next()
        .map_or("", |frame| if frame.contains("\"authenticated\":true") { " authenticated" } else { "" });
    let received = frames.map(|frames| if frames.is_empty() { "-" } else { "+" });
    received.concat() + shown
}

#[test]
fn settings_say_who_may_join_and_send_and_whom_it_reaches() {
    const NOT_JOINED: &str = "Only clients that have joined the channel can do this.";
    const NOT_ALLOWED: &str = "This channel's settings do not allow this.";
    const ANONYMOUS_CANNOT: &str = "Anonymous clients cannot do this.";
    let (public, to_one, signed_in) = ("", r#","socketId":"ANON""#, r#","authenticated":true"#);
    let mut closed = ruled(|_| {});
    let last = closed.received(ANONYMOUS).pop().expect("an answer");
    assert!(last.contains(r#""message":"Anonymous clients cannot join this channel.""#), "{last}");
    assert_eq!(sent(&mut closed, ANONYMOUS, public), NOT_JOINED);
    for options in [public, to_one, signed_in] {
        assert_eq!(sent(&mut closed, XANO, options), NOT_ALLOWED, "{options}");
    }
    let history = r#"{"action":"history","options":{"channel":"ruled"}}"#;
    closed.send(ANONYMOUS, history);
    assert!(closed.received(ANONYMOUS)[0].contains("Anonymous clients cannot join this channel."));

    let mut listeners = ruled(|row| (row.anonymous_clients, row.public_messaging) = (true, Who::Users));
    assert_eq!(sent(&mut listeners, XANO, public), "++");
    assert_eq!(sent(&mut listeners, ANONYMOUS, public), ANONYMOUS_CANNOT);
    assert_eq!(sent(&mut listeners, XANO, signed_in), NOT_ALLOWED);
    assert_eq!(sent(&mut listeners, XANO, to_one), NOT_ALLOWED);

    let mut private = ruled(|row| (row.anonymous_clients, row.private_messaging) = (true, Who::Anybody));
    assert_eq!(sent(&mut private, XANO, to_one), "-+");
    assert_eq!(sent(&mut private, ANONYMOUS, r#","socketId":"XANO""#), "+-");
    assert_eq!(sent(&mut private, XANO, public), NOT_ALLOWED);
    let mut private = ruled(|row| (row.anonymous_clients, row.private_messaging) = (true, Who::Users));
    assert_eq!(sent(&mut private, ANONYMOUS, r#","socketId":"XANO""#), ANONYMOUS_CANNOT);

    let mut split = ruled(|row| {
        (row.anonymous_clients, row.authenticated_messaging) = (true, true);
        row.public_messaging = Who::Anybody;
    });
    assert_eq!(sent(&mut split, XANO, public), "+- authenticated");
    assert_eq!(sent(&mut split, XANO, signed_in), "+- authenticated");
    assert_eq!(sent(&mut split, ANONYMOUS, public), "++");
    assert_eq!(sent(&mut split, ANONYMOUS, signed_in), ANONYMOUS_CANNOT);
}

#[test]
fn settings_hold_for_clients_of_every_dialect() {
    let mut closed = ruled(|_| {});
    closed.forget();
    closed.send(NATIVE, r#"{"type":"send","id":1,"channel":"ruled","event":"e","message":1}"#);
    assert!(closed.received(NATIVE)[0].contains("not_allowed"));
    assert_eq!(closed.received(XANO), Vec::<String>::new());
    let mut split = ruled(|row| (row.anonymous_clients, row.authenticated_messaging) = (true, true));
    split.forget();
    split.send(NATIVE, r#"{"type":"send","channel":"ruled","event":"message","message":1}"#);
    assert_eq!(split.received(ANONYMOUS), Vec::<String>::new());
    assert!(split.received(XANO)[0].contains(r#""authenticated":true"#));
}

#[test]
fn sessions_follow_the_settings_of_a_reloaded_app() {
    let mut room = room();
    let join = JOIN.replace("\"c\"", "\"new\"");
    room.send_and_wait(XANO, &join);
    assert_eq!(actions(&room.received(XANO)), ["error"]);
    let mut changed = app();
    let row = XanoChannel { anonymous_clients: true, ..XanoChannel::new("new") };
    changed.rules.extend(row.rules(changed.default_options()));
    changed.xano.as_mut().expect("it has them").channels = vec![row];
    room.engine.set_apps(std::sync::Arc::new(Apps::new(vec![changed]).expect("one app")));
    room.send_and_wait(XANO, &join);
    room.send_and_wait(XANO, JOIN);
    assert_eq!(actions(&room.received(XANO)), ["join", "error"]);
}

#[test]
fn a_message_to_one_client_reaches_it_alone() {
    let mut room = room();
    (0..2).for_each(|session| room.send_and_wait(session, JOIN));
    room.forget();
    let target = room.ids[ANONYMOUS].clone();
    room.send_and_wait(
        XANO,
        &format!(r#"{{"action":"message","options":{{"channel":"c","socketId":"{target}"}},"payload":1}}"#),
    );
    assert_eq!(room.received(XANO), Vec::<String>::new());
    let private = &room.received(ANONYMOUS)[0];
    assert!(
        private.contains(&format!(r#""authenticated":false,"socketId":"{target}"}},"payload":1}}"#)),
        "{private}"
    );
    room.send_and_wait(XANO, r#"{"action":"message","options":{"channel":"c","socketId":"x"},"payload":1}"#);
    let refused = r#"{"message":"socketId is not that of a client."}"#;
    assert_eq!(room.received(XANO), [answer("error", refused)]);
}

#[test]
fn a_message_to_a_client_that_is_no_member_is_refused() {
    let mut room = room();
    room.send_and_wait(XANO, JOIN);
    room.send_and_wait(ANONYMOUS, &JOIN.replace("\"c\"", "\"d\""));
    let refused = answer("error", r#"{"message":"The receiver has not joined the channel."}"#);
    let (other, no_worker) = (room.ids[ANONYMOUS].clone(), "_".repeat(room.ids[XANO].len()));
    for target in [other.clone(), no_worker] {
        let Some(_) = crate::id::SessionId::parse(&target) else { continue };
        let options = format!(r#"{{"channel":"c","socketId":"{target}"}}"#);
        room.forget();
        room.send_and_wait(XANO, &format!(r#"{{"action":"message","options":{options},"payload":1}}"#));
        assert_eq!(room.received(XANO), std::slice::from_ref(&refused), "{target}");
        assert_eq!(room.received(ANONYMOUS), Vec::<String>::new());
    }
    // A native sender is not told, as docs/PROTOCOL.md says.
    room.send_and_wait(NATIVE, r#"{"type":"join","channel":"c"}"#);
    room.forget();
    let send = r#"{"type":"send","id":1,"channel":"c","event":"e","message":1,"to_session":"ID"}"#;
    room.send_and_wait(NATIVE, &send.replace("ID", &other));
    assert!(room.received(NATIVE)[0].contains("\"id\":1"), "it is confirmed");
}

#[test]
fn what_a_back_end_publishes_is_an_event() {
    let mut room = room();
    room.send_and_wait(XANO, JOIN);
    room.forget();
    let publication = |event: &'static str, payload: Payload<'static>, audience| {
        let id = crate::id::IdGenerator::new(1).message_id(1);
        let publication = crate::publication::Publication {
            audience,
            ..crate::publication::Publication::message(id, event, payload)
        };
        let (mut out, mut memo) = (BytesMut::new(), dialect::Memo::new(Format::XanoFrames));
        dialect::encode_publication(Format::XanoFrames, &mut out, &mut memo, Some("c"), &publication);
        frames(&out).remove(0)
    };
    let everyone = crate::publication::Audience::default();
    let one =
        crate::publication::Audience { only_users: Some([Box::from("7:42")].into()), ..everyone.clone() };
    let event = |data: &str, ids: &str| answer("event", &format!(r#"{{"data":{data},{ids}}}"#));
    let nobodys = r#""dbo_id":0,"row_id":0"#;
    assert_eq!(publication("event", Payload::Json("1"), &everyone), event("1", nobodys));
    assert_eq!(publication("message", Payload::Json("1"), &one), event("1", r#""dbo_id":7,"row_id":42"#));
    assert_eq!(
        publication("e\"", Payload::Json("1"), &everyone),
        event(r#"{"event":"e\"","message":1}"#, nobodys)
    );
    let bytes = Payload::Binary(&[0, 255]);
    assert_eq!(publication("event", bytes, &everyone), event(r#"{"type":"Buffer","data":[0,255]}"#, nobodys));
}

#[test]
fn history_holds_messages_as_they_were_received_the_oldest_first() {
    let mut room = room();
    (0..2).for_each(|session| room.send_and_wait(session, JOIN));
    room.send_and_wait(NATIVE, r#"{"type":"join","channel":"c"}"#);
    room.forget();
    room.send_and_wait(XANO, r#"{"action":"message","options":{"channel":"c"},"payload":1}"#);
    room.send_and_wait(NATIVE, r#"{"type":"send","channel":"c","event":"e","message":2}"#);
    let target = room.ids[ANONYMOUS].clone();
    let private = r#"{"action":"message","options":{"channel":"c","socketId":"ID"},"payload":3}"#;
    room.send_and_wait(XANO, &private.replace("ID", &target));
    let live = room.received(XANO);
    assert_eq!(live.len(), 2);
    room.send_and_wait(ANONYMOUS, r#"{"action":"history","options":{"channel":"c"},"payload":null}"#);
    let last = room.received(ANONYMOUS).pop().expect("an answer");
    assert_eq!(last, answer("history", &format!(r#"{{"history":[{},{}]}}"#, live[0], live[1])));
    let history = r#"{"action":"history","options":{"channel":"d"},"payload":null}"#;
    room.send_and_wait(ANONYMOUS, history);
    let refused = r#"{"message":"Only clients that have joined the channel can do this."}"#;
    assert_eq!(room.received(ANONYMOUS), [answer("error", refused).replace("\"c\"", "\"d\"")]);
    room.send_and_wait(ANONYMOUS, &JOIN.replace("\"c\"", "\"d\""));
    room.forget();
    room.send_and_wait(ANONYMOUS, history);
    let empty = answer("history", r#"{"history":[]}"#).replace("\"c\"", "\"d\"");
    assert_eq!(room.received(ANONYMOUS), [empty]);
}

#[test]
fn what_makes_no_sense_is_told_where_a_channel_is_named_and_counted_everywhere() {
    let mut room = room();
    for text in [
        "",
        "x",
        "[]",
        "{}",
        r#"{"action":""}"#,
        r#"{"action":1,"options":{"channel":"c"}}"#,
        r#"{"action":"join"}"#,
        r#"{"action":"join","options":null}"#,
        r#"{"action":"join","options":{"channel":7}}"#,
        r#"{"action":"join","options":{"channel":"\ud800"}}"#,
    ] {
        room.send_and_wait(XANO, text);
    }
    assert_eq!(room.engine.receive(room.slots[XANO], Message::Binary(&[1])), Flow::Continue);
    assert_eq!(room.received(XANO), Vec::<String>::new());
    assert_eq!(room.engine.counters().command_errors, 11);
    room.send_and_wait(XANO, r#"{"action":"connection_status","options":{"channel":"c"}}"#);
    room.send_and_wait(XANO, r#"{"action":"join","options":{"channel":"other"}}"#);
    let expected = [
        answer("error", r#"{"message":"There is no such action."}"#),
        answer("error", r#"{"message":"There is no channel of this name."}"#).replace("\"c\"", "\"other\""),
    ];
    assert_eq!(room.received(XANO), expected);
    assert!(room.engine.take_disconnects().is_empty());
}

#[test]
fn closes_bring_a_stock_client_back_only_where_it_is_wanted() {
    let code = |why| dialect::closing(Format::XanoFrames, why).code;
    assert_eq!((code(Disconnect::Restart), code(Disconnect::SlowConsumer)), (1012, 1013));
    assert_eq!((code(Disconnect::PingTimeout), code(Disconnect::MessageTimeout)), (4000, 4000));
    assert_eq!(code(Disconnect::ByServer { reconnect: true }), 4000);
    assert_eq!(code(Disconnect::ByServer { reconnect: false }), 4401);
    let mut out = BytesMut::new();
    dialect::put_disconnect(Format::XanoFrames, &mut out, Disconnect::Restart);
    assert_eq!(frames(&out), ["close Some(1012)"]);
}

#[test]
fn admission_takes_a_token_that_verifies_and_ignores_one_that_does_not() {
    let apps = Apps::new(vec![app()]).expect("one app");
    let claims = || Claims { channels: vec!["elsewhere".into()], ..claims("7:42", None) };
    let verify =
        |_: &App, token: &str| if token == "good" { Ok(claims()) } else { Err(TokenError::Malformed) };
    let user = |token| {
        let admission = admit(&apps, "canonical", (token, None), verify).expect("the app is there");
        admission.claims.map(|claims| (claims.user.to_string(), claims.channels.len()))
    };
    assert_eq!(user(Some("good")), Some((String::from("7:42"), 0)));
    assert_eq!((user(Some("bad")), user(None)), (None, None));
    assert!(admit(&apps, "%63anonical", (None, None), verify).is_ok());
    let refusal = |app: &App, canonical| {
        let apps = Apps::new(vec![app.clone()]).expect("one app");
        let stranger =
            admit(&apps, canonical, (None, Some("https://a.example")), verify).expect_err("refused");
        let mut out = BytesMut::new();
        put_stranger(&mut out, stranger);
        frames(&out)
    };
    let expected = |sentence: &str| {
        let error = format!(
            r#"{{"action":"error","client":null,"options":{{}},"payload":{{"message":"{sentence}"}}}}"#
        );
        vec![error, String::from("close Some(4401)")]
    };
    assert_eq!(refusal(&app(), "other"), expected("Unknown connection hash"));
    assert_eq!(refusal(&app(), "%"), expected("Unknown connection hash"));
    let off = App { xano: Some(XanoOptions { enabled: false, ..XanoOptions::new("canonical") }), ..app() };
    assert_eq!(refusal(&off, "canonical"), expected("Realtime is disabled"));
    let fenced =
        App { origins: crate::app::Origins::new(&["https://b.example"]).expect("an origin"), ..app() };
    assert_eq!(refusal(&fenced, "canonical"), expected("This origin may not connect"));
}
