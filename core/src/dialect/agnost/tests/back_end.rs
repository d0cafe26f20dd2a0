//! Transcripts of a back end's connection.

use super::*;
use crate::{
    command::{BackEndCommand, Outcome},
    id::{SessionId, SessionSlot, WorkerId},
    publication::IdentityCard,
    socketio::AckId,
};

const TOKEN: &str = "a-token-of-the-whole-server";

const WITH_BYTES: &str = concat!(
    r#"451-["broadcast_message",{"envId":"env","eventName":"e","#,
    r#""message":{"_placeholder":true,"num":0}}]"#,
);

fn apps() -> Apps {
    let other = AppKeys::new(&[], &["server-key-of-another"]).expect("a key");
    let other = App { agnost: Some(AgnostOptions::new("other")), ..App::new("other", other) };
    let plain = App::new("plain", AppKeys::new(&[], &["server-key-of-plain"]).expect("a key"));
    let tokens = AppKeys::new(&[], &[TOKEN]).expect("a token");
    Apps::new(vec![app(), other, plain]).expect("three apps").with_access_tokens(tokens)
}

fn connect(apps: &Apps, access_token: &str) -> Option<BackEnd> {
    let mut lobby = Lobby::new(Format::AgnostFrames, 0);
    let auth = json!({ "accessToken": access_token }).to_string();
    let packet = format!("40{auth}");
    let (Knock::Asks { auth }, _) = knock(&mut lobby, &packet) else { panic!("it is a CONNECT") };
    match admit(apps, auth, &Visitor::default(), |_, _| Err(TokenError::Malformed)) {
        Ok(Entrance::BackEnd(scope)) => {
            let mut out = BytesMut::new();
            let back_end = lobby.admit_back_end(scope, Secret::new(5), &mut out);
            assert!(frames(&out)[0].starts_with("40{\"sid\":\""));
            Some(back_end)
        }
        Ok(Entrance::Session(_)) => panic!("it has no key"),
        Err(refusal) => {
            assert_eq!(refusal.code(), "no_environment_found");
            None
        }
    }
}

/// Hands a message to the back end's connection. Returns the result and the commands.
fn say(back_end: &mut BackEnd, apps: &Apps, message: Message<'_>) -> (Heard, Vec<String>) {
    let mut commands = Vec::new();
    let heard = back_end.handle(message, apps, 0, &mut BytesMut::new(), &mut |app, ack, command| {
        let ack = ack.map(|Receipt(ack)| ack.get());
        let command = match command {
            BackEndCommand::Publish { publish, .. } => {
                format!("{:?} {} {:?}", publish.channel, publish.event, publish.payload)
            }
            BackEndCommand::PublishToUser { user, event, payload, .. } => {
                format!("to {user} {event} {payload:?}")
            }
            BackEndCommand::AllMembers(channel) => format!("members of {channel}"),
            other => panic!("{other:?}"),
        };
        commands.push(format!("{} {ack:?} {command}", app.name));
    });
    (heard, commands)
}

#[test]
fn an_access_token_opens_what_it_says_and_nothing_else() {
    let apps = apps();
    for wrong in ["", "x", KEY, "server-key-of-plain", &TOKEN[1..]] {
        assert!(connect(&apps, wrong).is_none(), "{wrong}");
    }
    let ask = |back_end: &mut BackEnd, env: &str| {
        let text = format!(r#"42["broadcast_message",{{"envId":"{env}","eventName":"e","message":1}}]"#);
        say(back_end, &apps, Message::Text(&text)).1.len()
    };
    let mut own = connect(&apps, SERVER_KEY).expect("a server key of an app");
    assert_eq!(["env", "other", "plain", "none", ""].map(|env| ask(&mut own, env)), [1, 0, 0, 0, 0]);
    let mut all = connect(&apps, TOKEN).expect("the server's token");
    assert_eq!(["env", "other", "plain", "none", ""].map(|env| ask(&mut all, env)), [1, 1, 0, 0, 0]);
}

#[test]
fn events_become_commands_of_the_app_they_name() {
    let apps = apps();
    let mut back_end = connect(&apps, SERVER_KEY).expect("a server key");
    let mut one = |text: &str| {
        let (heard, commands) = say(&mut back_end, &apps, Message::Text(text));
        assert_eq!(heard, Heard::Done, "{text}");
        commands.join("; ")
    };
    assert_eq!(
        one(r#"42["send_message",{"envId":"env","channelName":"c","eventName":"e","message":{"a": 1}}]"#),
        r#"default None Some("c") e Json("{\"a\": 1}")"#
    );
    assert_eq!(
        one(r#"42["broadcast_message",{"envId":"env","eventName":"e"}]"#),
        r#"default None None e Json("null")"#
    );
    assert_eq!(
        one(r#"42["user_event",{"envId":"env","userId":"u","eventName":"user:signin","session":{"a":1}}]"#),
        r#"default None to u user:signin Json("{\"session\":{\"a\":1},\"user\":null}")"#
    );
    assert_eq!(one(r#"420["get_members",{"envId":"env","channel":"c"}]"#), "default Some(0) members of c");
    assert_eq!(one("3"), "");
    assert_eq!(one(WITH_BYTES), "");
    let (_, commands) = say(&mut back_end, &apps, Message::Binary(&[1, 255]));
    assert_eq!(commands, ["default None None e Binary([1, 255])"]);
}

#[test]
fn what_makes_no_sense_is_refused_and_the_connection_goes_on() {
    let apps = apps();
    let mut back_end = connect(&apps, SERVER_KEY).expect("a server key");
    for text in [
        r#"42["send_message"]"#,
        r#"42["send_message",null]"#,
        r#"42["send_message",{}]"#,
        r#"42["send_message",{"envId":7}]"#,
        r#"42["send_message",{"envId":"env","eventName":"e"}]"#,
        r#"42["send_message",{"envId":"env","channelName":"","eventName":"e"}]"#,
        r#"42["send_message",{"envId":"env","channelName":"c"}]"#,
        r#"42["send_message",{"envId":"env","channelName":"c","eventName":"disconnect"}]"#,
        r#"42["user_event",{"envId":"env","eventName":"e"}]"#,
        r#"42["user_event",{"envId":"env","userId":"","eventName":"e"}]"#,
        r#"42["get_members",{"envId":"env"}]"#,
        r#"42["join",{"envId":"env","channel":"c"}]"#,
        r#"42[7,{"envId":"env"}]"#,
    ] {
        let (heard, commands) = say(&mut back_end, &apps, Message::Text(text));
        assert!(matches!(heard, Heard::Refused(_)) && commands.is_empty(), "{text}: {heard:?} {commands:?}");
    }
    for text in ["41", "1", "2", "", "42[", "40", "b", "9", r#"42["connect",{}]"#] {
        let mut back_end = connect(&apps, SERVER_KEY).expect("a server key");
        assert_eq!(say(&mut back_end, &apps, Message::Text(text)).0, Heard::Over, "{text}");
    }
    let mut back_end = connect(&apps, SERVER_KEY).expect("a server key");
    assert_eq!(say(&mut back_end, &apps, Message::Binary(&[1])).0, Heard::Over);
}

#[test]
fn members_are_acknowledged_in_one_array() {
    let id = SessionId::new(WorkerId(0), SessionSlot(0), [0; 9]);
    let members =
        [Some("{}"), None].map(|profile| IdentityCard { id, user: None, profile: profile.map(Into::into) });
    let ack = Receipt(AckId::new(7).expect("a number"));
    let mut out = BytesMut::new();
    let back_end = connect(&apps(), TOKEN).expect("an access token");
    back_end.put_members(&mut out, ack, &members);
    back_end.put_members(&mut out, ack, &[]);
    let one = format!(r#"437[[{{"id":"{id}","data":{{}}}},{{"id":"{id}"}}]]"#);
    assert_eq!(frames(&out), [one.as_str(), "437[[]]"]);
}

#[test]
fn a_user_is_told_in_three_arguments() {
    let mut room = room();
    let app = AppId(0);
    let user = "luke";
    let signed_in = room.open(Format::AgnostFrames, None, Some(claims(user, None)));
    // A channel with the user's name is an ordinary channel.
    room.send(OTHER, r#"42["join",{"channel":"luke","echo":false}]"#);
    let command = |user, event| BackEndCommand::PublishToUser {
        user,
        event,
        payload: crate::publication::Payload::Json(r#"{"session":{"a": 1},"user":null}"#),
        note: Some("user_event".into()),
    };
    for user in [user, "nobody"] {
        let done = room.engine.request(app, command(user, "user:signin"), 1);
        assert!(matches!(done, Some(Ok(Outcome::Broadcast { .. }))), "{done:?}");
    }
    assert_eq!(room.received(signed_in), [r#"42["user:signin","user:signin",{"a": 1},null]"#]);
    assert_eq!(room.received(OTHER), Vec::<String>::new());
}
