//! Permissions: the rules of a channel decide what sessions may do. The tests try every way to join, read,
//! write and edit against every rule, with a user and without.

mod support;
mod workers;

use fanfare_core::app::{App, ChannelOptions, ChannelRule, HistoryLimits, SignedInMessages, Who};
use serde_json::{Value, json};
use workers::{Workers, request};

const RULES: [Who; 3] = [Who::Anybody, Who::Users, Who::Nobody];

/// A change of the app that gives `room` a history and these options.
fn with(options: ChannelOptions) -> impl FnOnce(&mut App) {
    move |app| {
        let history = HistoryLimits { messages: 10, ..HistoryLimits::NONE };
        let options = ChannelOptions { history, announce: false, ..options };
        app.rules = vec![ChannelRule { pattern: "room".into(), options }];
        app.sender_edits = true;
    }
}

fn open(workers: &mut Workers, worker: usize, user: Option<&str>) -> usize {
    let session = workers.open_as(worker, user);
    workers.run_until_idle();
    workers.received(session);
    session
}

fn answer(workers: &mut Workers, session: usize, mut command: Value) -> Value {
    command["id"] = json!(1);
    command["channel"] = json!("room");
    workers.command(session, &command);
    workers.run_until_idle();
    workers.received(session).into_iter().find(|frame| frame["id"] == 1).expect("an answer")
}

/// The code of a command's error; empty if the command succeeds.
fn code(workers: &mut Workers, session: usize, command: Value) -> String {
    answer(workers, session, command)["error"]["code"].as_str().unwrap_or_default().to_owned()
}

/// The expected code for a session with or without a user under a rule.
fn expected(who: Who, has_user: bool) -> &'static str {
    match who {
        Who::Anybody => "",
        Who::Users if has_user => "",
        Who::Users => "session_required",
        Who::Nobody => "not_allowed",
    }
}

#[test]
fn who_may_not_join_neither_joins_nor_reads() {
    for join in RULES {
        for user in [None, Some("ada")] {
            // The rule holds for an existing channel and for one that does not exist.
            for exists in [false, true] {
                let mut workers =
                    Workers::new(1, 64, with(ChannelOptions { join, ..ChannelOptions::default() }));
                if exists {
                    let body = json!({"channel": "room", "event": "e"});
                    request(&mut workers, 0, "POST", "/v1/send", &body);
                }
                let session = open(&mut workers, 0, user);
                for command in ["members", "history", "join"] {
                    let code = code(&mut workers, session, json!({"type": command}));
                    assert_eq!(code, expected(join, user.is_some()), "{command} {join:?} {user:?}");
                }
                let users = json!({"type": "members", "by": "user"});
                assert_eq!(code(&mut workers, session, users), expected(join, user.is_some()));
            }
        }
    }
}

#[test]
fn a_member_stays_one_when_its_channel_closes_and_joining_again_is_harmless() {
    let mut workers = Workers::new(1, 64, with(ChannelOptions::default()));
    let ada = open(&mut workers, 0, None);
    assert_eq!(code(&mut workers, ada, json!({"type": "join"})), "");
    let closed = json!({"channel": "room", "join": "nobody", "publish": "nobody"});
    request(&mut workers, 0, "PUT", "/v1/options", &closed);
    assert_eq!(code(&mut workers, ada, json!({"type": "join"})), "");
    assert_eq!(code(&mut workers, ada, json!({"type": "send", "event": "e"})), "not_allowed");
    let bob = open(&mut workers, 0, None);
    assert_eq!(code(&mut workers, bob, json!({"type": "join"})), "not_allowed");
    // The rule does not restrict the back end.
    request(&mut workers, 0, "POST", "/v1/send", &json!({"channel": "room", "event": "e"}));
    assert_eq!(workers.received(ada).len(), 1);
}

#[test]
fn who_may_not_publish_does_not_by_any_command() {
    for (publish, direct) in RULES.into_iter().flat_map(|publish| RULES.map(|direct| (publish, direct))) {
        for user in [None, Some("ada")] {
            let options = ChannelOptions { publish, direct, ..ChannelOptions::default() };
            let mut workers = Workers::new(1, 64, with(options));
            let (ada, bob) = (open(&mut workers, 0, user), workers.open_as(0, Some("bob")));
            workers.run_until_idle();
            let bobs_id = workers.received(bob)[0]["welcome"].clone();
            let may = |who| expected(who, user.is_some());
            for exists in [false, true] {
                if exists {
                    assert_eq!(code(&mut workers, bob, json!({"type": "join"})), "");
                }
                let send = json!({"type": "send", "event": "e"});
                assert_eq!(code(&mut workers, ada, send.clone()), may(publish), "{publish:?} {user:?}");
                let mut to_bob = send.clone();
                to_bob["to_users"] = json!(["bob"]);
                assert_eq!(code(&mut workers, ada, to_bob), may(publish));
                let mut to_session = send;
                to_session["to_session"] = bobs_id.clone();
                assert_eq!(code(&mut workers, ada, to_session), may(direct), "{direct:?} {user:?}");
            }
            let received = workers.received(bob).len();
            let allowed = usize::from(may(publish).is_empty()) * 2 + usize::from(may(direct).is_empty());
            assert_eq!(received, allowed);
        }
    }
}

/// Several messages in a row are one operation, and a reader recognises later ones by their shape.
#[test]
fn a_burst_is_refused_like_one_message() {
    let options = ChannelOptions { publish: Who::Users, ..ChannelOptions::default() };
    let mut workers = Workers::new(1, 64, with(options));
    let (ada, bob) = (open(&mut workers, 0, None), open(&mut workers, 0, Some("bob")));
    assert_eq!(code(&mut workers, bob, json!({"type": "join"})), "");
    for number in 0..20 {
        let message = json!({"type": "send", "channel": "room", "event": "e", "message": number});
        workers.command(bob, &message);
        workers.command(ada, &message);
    }
    workers.run_until_idle();
    let refused = workers.received(ada);
    assert!(refused.len() == 20 && refused.iter().all(|frame| frame["error"]["code"] == "session_required"));
    assert_eq!(workers.received(bob).len(), 20);
}

#[test]
fn who_may_not_publish_does_not_edit() {
    let mut workers = Workers::new(1, 64, with(ChannelOptions::default()));
    let ada = open(&mut workers, 0, Some("ada"));
    let sent = answer(&mut workers, ada, json!({"type": "send", "event": "e", "message": 1}));
    let edit = json!({"type": "edit", "message_id": sent["ok"]["message_id"], "message": 2});
    assert_eq!(code(&mut workers, ada, edit.clone()), "");
    request(
        &mut workers,
        0,
        "PUT",
        "/v1/options",
        &json!({"channel": "room", "history_messages": 10, "publish": "nobody"}),
    );
    assert_eq!(code(&mut workers, ada, edit), "not_allowed");
    let delete = json!({"type": "delete", "message_id": sent["ok"]["message_id"]});
    assert_eq!(code(&mut workers, ada, delete), "not_allowed");
}

/// Four members on two workers: ada and bob have users, eve and mallory have none.
fn four(options: ChannelOptions) -> (Workers, [usize; 4]) {
    let mut workers = Workers::new(2, 64, with(options));
    let members = [(0, Some("ada")), (1, Some("bob")), (0, None), (1, None)];
    let members = members.map(|(worker, user)| open(&mut workers, worker, user));
    for member in members {
        assert_eq!(code(&mut workers, member, json!({"type": "join"})), "");
    }
    (workers, members)
}

/// The number of publications that each member has received.
fn counts(workers: &mut Workers, members: [usize; 4]) -> [usize; 4] {
    workers.run_until_idle();
    members.map(|member| workers.received(member).iter().filter(|frame| frame.get("event").is_some()).count())
}

#[test]
fn a_message_for_signed_in_members_reaches_and_is_remembered_for_them_alone() {
    let (mut workers, members) = four(ChannelOptions::default());
    let signed_in = json!({"type": "send", "channel": "room", "event": "e", "message": 1, "signed_in": true});
    workers.command(members[0], &signed_in);
    assert_eq!(counts(&mut workers, members), [1, 1, 0, 0]);
    let mut except = signed_in.clone();
    except["except_users"] = json!(["bob"]);
    workers.command(members[0], &except);
    assert_eq!(counts(&mut workers, members), [1, 0, 0, 0]);
    let mut body = signed_in.clone();
    body.as_object_mut().expect("an object").remove("type");
    request(&mut workers, 1, "POST", "/v1/send", &body);
    assert_eq!(counts(&mut workers, members), [1, 1, 0, 0]);
    for (member, remembered) in members.into_iter().zip([3, 2, 0, 0]) {
        let page = answer(&mut workers, member, json!({"type": "history"}));
        assert_eq!(page["ok"]["messages"].as_array().map(Vec::len), Some(remembered));
    }
    let mut refused = signed_in;
    refused["id"] = json!(1);
    workers.command(members[2], &refused);
    workers.run_until_idle();
    let answered = workers.received(members[2]);
    assert_eq!(
        answered[0]["error"]["code"], "session_required",
        "who is not signed in does not address them"
    );
}

#[test]
fn a_broadcast_may_be_for_signed_in_sessions() {
    let (mut workers, members) = four(ChannelOptions::default());
    workers.command(members[0], &json!({"type": "broadcast", "event": "e", "signed_in": true}));
    assert_eq!(counts(&mut workers, members), [1, 1, 0, 0]);
}

#[test]
fn where_signed_in_sessions_are_apart_their_messages_reach_signed_in_members_alone() {
    let always = ChannelOptions { signed_in_messages: SignedInMessages::Always, ..ChannelOptions::default() };
    for publish in RULES {
        let (mut workers, members) = four(ChannelOptions { publish, ..always });
        let send = json!({"type": "send", "channel": "room", "event": "e"});
        workers.command(members[0], &send);
        assert_eq!(counts(&mut workers, members), [1, 1, 0, 0], "whatever others may: {publish:?}");
        workers.command(members[2], &send);
        let everyone = usize::from(publish == Who::Anybody);
        assert_eq!(counts(&mut workers, members), [everyone; 4]);
    }
    let never = ChannelOptions { signed_in_messages: SignedInMessages::Never, ..ChannelOptions::default() };
    let (mut workers, members) = four(never);
    let signed_in = json!({"type": "send", "event": "e", "signed_in": true});
    assert_eq!(code(&mut workers, members[0], signed_in), "not_allowed");
    assert_eq!(code(&mut workers, members[0], json!({"type": "send", "event": "e"})), "");
}

#[test]
fn an_edit_that_narrows_a_message_to_signed_in_members_deletes_it_for_the_others() {
    let (mut workers, members) = four(ChannelOptions::default());
    let sent = answer(&mut workers, members[0], json!({"type": "send", "event": "e", "message": 1}));
    counts(&mut workers, members);
    let edit = json!({
        "type": "edit", "channel": "room", "message_id": sent["ok"]["message_id"], "message": 2,
        "signed_in": true, "except_users": ["bob"],
    });
    workers.command(members[0], &edit);
    workers.run_until_idle();
    let kinds = members.map(|member| {
        let frames = workers.received(member);
        frames.iter().map(|frame| frame["event"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    });
    assert_eq!(kinds, [["message:edit"], ["message:delete"], ["message:delete"], ["message:delete"]]);
}

#[test]
fn options_are_set_by_the_names_that_the_configuration_has() {
    let mut workers = Workers::new(1, 64, |_| ());
    let set = json!({
        "channel": "room", "join": "users", "publish": "nobody", "direct": "users",
        "signed_in_messages": "always",
    });
    let answer = request(&mut workers, 0, "PUT", "/v1/options", &set);
    for name in ["join", "publish", "direct", "signed_in_messages"] {
        assert_eq!(answer[name], set[name]);
        let wrong = json!({"channel": "room", name: "everybody"});
        assert_eq!(request(&mut workers, 0, "PUT", "/v1/options", &wrong), "invalid_command");
    }
}
