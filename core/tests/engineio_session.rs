//! Engine.IO sessions, transcript by transcript: what comes in, when, and what goes out. The cases of the
//! official suite, and those of bad input.

use bytes::BytesMut;
use fanfare_core::engineio::{
    Action, CloseReason, Effect, Framing, PostHead, QueueError, RequestError, Session, Transport,
    UpgradeAnswer, Upgrades, put_open,
};

mod engineio;

use engineio::{Peer, config, frames};

fn nothing() -> Vec<String> {
    Vec::new()
}

// Messages

#[test]
fn open_packet_has_the_members_of_the_protocol() {
    let mut out = BytesMut::new();
    put_open(&mut out, Framing::Frames, "abc", Upgrades::None, &config());
    let read = frames(&out);
    let json = read[0].strip_prefix("frame: 0").expect("an open packet");
    let open: serde_json::Value = serde_json::from_str(json).expect("JSON");
    let expected = serde_json::json!({
        "sid": "abc", "upgrades": [], "pingInterval": 300, "pingTimeout": 200, "maxPayload": 1000,
    });
    assert_eq!(open, expected);
}

#[test]
fn packets_of_a_post_come_back_with_the_next_poll() {
    let mut peer = Peer::open(Transport::Polling);
    assert_eq!(peer.post("4hello"), Ok(nothing()));
    assert_eq!(peer.poll(), Ok(vec!["poll: 4hello".into()]));
    assert_eq!(peer.post("4test1\x1e4test2\x1e4test3"), Ok(nothing()));
    assert_eq!(peer.poll(), Ok(vec!["poll: 4test1|4test2|4test3".into()]));
    assert_eq!(peer.post("4hello\x1ebAQIDBA=="), Ok(nothing()));
    assert_eq!(peer.poll(), Ok(vec!["poll: 4hello|bAQIDBA==".into()]));
}

#[test]
fn held_poll_is_answered_by_the_first_packet_and_the_rest_waits() {
    let mut peer = Peer::open(Transport::Polling);
    assert_eq!(peer.poll(), Ok(nothing()));
    assert_eq!(peer.post("4a\x1e4b\x1ebAQ=="), Ok(vec!["poll: 4a".into()]));
    assert_eq!(peer.poll(), Ok(vec!["poll: 4b|bAQ==".into()]));
    assert_eq!(peer.poll(), Ok(nothing()));
    assert_eq!(peer.send("c"), Ok(vec!["poll: 4c".into()]));
}

#[test]
fn packets_that_are_queued_together_answer_one_poll() {
    let mut peer = Peer::open(Transport::Polling);
    assert_eq!(peer.poll(), Ok(nothing()));
    let mut run = BytesMut::new();
    for text in ["a", "b", "c"] {
        Framing::Payload.put_text(&mut run, [text]);
    }
    // A run that several sessions share, cut between two packets.
    let (first, second) = run.split_at(3);
    assert_eq!(peer.session.queue(first), Ok(()));
    assert_eq!(peer.session.queue(second), Ok(()));
    assert_eq!(peer.pass(0), nothing());
    assert_eq!(peer.session.poll_effect(), Some(Effect::AnswerPoll));
    assert_eq!(peer.session.take_payload(), "4a\u{1e}4b\u{1e}4c");
}

#[test]
fn packets_of_a_websocket_come_back_as_frames() {
    let mut peer = Peer::open(Transport::WebSocket);
    assert_eq!(peer.frame("4hello"), ["frame: 4hello"]);
    assert_eq!(peer.binary_frame(&[1, 2, 3, 4]), ["frame: [1, 2, 3, 4]"]);
}

#[test]
fn what_is_no_packet_ends_the_session() {
    let ended = "ended: Packet(UnknownType)".to_owned();
    let mut peer = Peer::open(Transport::Polling);
    assert_eq!(peer.poll(), Ok(nothing()));
    assert_eq!(peer.post("abc"), Ok(vec!["poll: 1".into(), ended.clone()]));
    assert_eq!(peer.poll(), Err(RequestError::UnknownSession));
    assert_eq!(peer.post("4a"), Err(RequestError::UnknownSession));
    let mut peer = Peer::open(Transport::WebSocket);
    assert_eq!(peer.frame("abc"), ["websocket closed".into(), ended]);
    assert_eq!(peer.frame("4a"), nothing());
    assert_eq!(peer.received, nothing());
}

#[test]
fn packets_before_the_broken_one_count_and_those_behind_it_do_not() {
    let mut peer = Peer::open(Transport::Polling);
    assert_eq!(peer.post("4a\x1eb*\x1e4b"), Ok(vec!["ended: Packet(Base64)".into()]));
    assert_eq!(peer.received, ["a"]);
}

#[test]
fn ping_from_a_client_ends_the_session() {
    let mut peer = Peer::open(Transport::Polling);
    assert_eq!(peer.post("2"), Ok(vec!["ended: PingFromPeer".into()]));
    let mut peer = Peer::open(Transport::WebSocket);
    assert_eq!(peer.frame("2probe"), ["websocket closed", "ended: PingFromPeer"]);
}

#[test]
fn packets_of_no_meaning_are_passed_over() {
    let mut peer = Peer::open(Transport::WebSocket);
    for packet in ["0{}", "5", "6", "3"] {
        assert_eq!(peer.frame(packet), nothing(), "{packet}");
    }
    assert!(peer.session.is_open());
}

// Requests

#[test]
fn second_poll_ends_the_session_and_the_first_one_is_told() {
    let mut peer = Peer::open(Transport::Polling);
    assert_eq!(peer.poll(), Ok(nothing()));
    assert_eq!(peer.poll(), Err(RequestError::Overlap));
    assert_eq!(peer.take(), ["poll: 1", "ended: PollOverlap"]);
    assert_eq!(peer.poll(), Err(RequestError::UnknownSession));
}

#[test]
fn second_post_ends_the_session_and_cuts_the_first() {
    let mut peer = Peer::open(Transport::Polling);
    assert_eq!(peer.poll(), Ok(nothing()));
    assert_eq!(peer.post_head(PostHead::default()), Ok(()));
    assert_eq!(peer.post_head(PostHead::default()), Err(RequestError::Overlap));
    assert_eq!(peer.take(), ["poll: 1", "post cut", "ended: PostOverlap"]);
}

#[test]
fn post_of_octets_ends_the_session() {
    for content_type in ["application/octet-stream", "Application/Octet-Stream; x=y"] {
        let mut peer = Peer::open(Transport::Polling);
        let head = PostHead { content_type: Some(content_type.as_bytes()), content_length: Some(1) };
        assert_eq!(peer.post_head(head), Err(RequestError::BinaryBody));
        assert_eq!(peer.take(), ["ended: BinaryBody"]);
    }
    let mut peer = Peer::open(Transport::Polling);
    let head = PostHead { content_type: Some(b"text/plain;charset=UTF-8"), content_length: Some(1) };
    assert_eq!(peer.post_head(head), Ok(()));
}

#[test]
fn post_that_is_too_large_is_refused_and_the_session_lives_on() {
    let mut peer = Peer::open(Transport::Polling);
    let head = |length| PostHead { content_type: None, content_length: Some(length) };
    assert_eq!(peer.post_head(head(1001)), Err(RequestError::BodyTooLarge));
    // A chunked body shows its size only when it has come.
    assert_eq!(peer.post_head(PostHead::default()), Ok(()));
    peer.session.handle_post_body();
    assert_eq!(peer.post_head(head(1000)), Ok(()));
    assert_eq!(peer.post_body(b"4a"), nothing());
    assert_eq!(peer.poll(), Ok(vec!["poll: 4a".into()]));
}

#[test]
fn post_of_too_many_packets_ends_the_session() {
    let mut peer = Peer::open(Transport::Polling);
    assert_eq!(peer.post(&["6"; 100].join("\x1e")), Ok(nothing()));
    assert_eq!(peer.post(&["6"; 101].join("\x1e")), Ok(vec!["ended: Packet(TooManyPackets)".into()]));
}

#[test]
fn post_whose_body_never_ends_is_cut_by_the_heartbeat() {
    let mut peer = Peer::open(Transport::Polling);
    assert_eq!(peer.poll(), Ok(nothing()));
    assert_eq!(peer.post_head(PostHead::default()), Ok(()));
    assert_eq!(peer.pass(499), ["poll: 2"]);
    assert_eq!(peer.pass(1), ["post cut", "ended: PingTimeout"]);
}

#[test]
fn broken_connection_of_a_request_ends_the_session() {
    let mut peer = Peer::open(Transport::Polling);
    assert_eq!(peer.cut(Action::Poll), nothing(), "no poll is held");
    assert_eq!(peer.poll(), Ok(nothing()));
    assert_eq!(peer.cut(Action::Poll), ["ended: RequestCut"]);
    let mut peer = Peer::open(Transport::Polling);
    assert_eq!(peer.poll(), Ok(nothing()));
    assert_eq!(peer.post_head(PostHead::default()), Ok(()));
    assert_eq!(peer.cut(Action::Post), ["poll: 1", "ended: RequestCut"]);
}

// Heartbeats

#[test]
fn server_pings_and_a_pong_keeps_the_session() {
    let mut peer = Peer::open(Transport::Polling);
    for _ in 0..3 {
        assert_eq!(peer.poll(), Ok(nothing()));
        assert_eq!(peer.pass(300), ["poll: 2"]);
        assert_eq!(peer.post("3"), Ok(nothing()));
    }
    let mut peer = Peer::open(Transport::WebSocket);
    for _ in 0..3 {
        assert_eq!(peer.pass(300), ["frame: 2"]);
        assert_eq!(peer.frame("3"), nothing());
    }
}

#[test]
fn silent_session_ends_after_interval_and_timeout() {
    let mut peer = Peer::open(Transport::WebSocket);
    assert_eq!(peer.pass(499), ["frame: 2"]);
    assert_eq!(peer.pass(1), ["websocket closed", "ended: PingTimeout"]);
    assert_eq!(peer.session.deadline_ms(), None);
    // A session that nobody polls costs one ping until then.
    let mut peer = Peer::open(Transport::Polling);
    assert_eq!(peer.pass(499), nothing());
    assert_eq!(peer.session.queued_bytes(), 2);
    assert_eq!(peer.pass(1), ["ended: PingTimeout"]);
    assert_eq!(peer.poll(), Err(RequestError::UnknownSession));
}

#[test]
fn client_that_pongs_and_never_polls_has_one_ping_waiting() {
    let mut peer = Peer::open(Transport::Polling);
    for _ in 0..10 {
        assert_eq!(peer.pass(300), nothing());
        assert_eq!(peer.session.queued_bytes(), 2);
        assert_eq!(peer.post("3"), Ok(nothing()));
    }
    assert_eq!(peer.poll(), Ok(vec!["poll: 2".into()]));
    assert_eq!(peer.pass(300), nothing());
    assert_eq!(peer.poll(), Ok(vec!["poll: 2".into()]), "the next one is queued again");
}

#[test]
fn request_at_the_very_end_of_the_timeout_comes_too_late() {
    let mut session = Session::open(std::sync::Arc::new(config()), Transport::Polling, 0);
    session.handle_timeout(300);
    assert_eq!(session.handle_poll(500), Err(RequestError::UnknownSession));
}

#[test]
fn any_packet_is_life() {
    let mut peer = Peer::open(Transport::WebSocket);
    assert_eq!(peer.pass(300), ["frame: 2"]);
    assert_eq!(peer.pass(199), nothing());
    for _ in 0..5 {
        assert_eq!(peer.frame("4x"), ["frame: 4x"]);
        assert_eq!(peer.pass(499), nothing());
    }
    assert_eq!(peer.frame("6"), nothing());
    assert_eq!(peer.pass(500), ["websocket closed", "ended: PingTimeout"]);
}

// Closing

#[test]
fn close_packet_releases_the_poll_with_a_noop() {
    let mut peer = Peer::open(Transport::Polling);
    assert_eq!(peer.poll(), Ok(nothing()));
    assert_eq!(peer.post("1"), Ok(vec!["poll: 6".into(), "ended: ClosedByPeer".into()]));
    assert_eq!(peer.poll(), Err(RequestError::UnknownSession));
    let mut peer = Peer::open(Transport::WebSocket);
    assert_eq!(peer.frame("1"), ["websocket closed", "ended: ClosedByPeer"]);
}

#[test]
fn end_of_the_websocket_ends_the_session() {
    let mut peer = Peer::upgraded();
    peer.session.handle_websocket_ended();
    assert_eq!(peer.pass(0), nothing());
    assert_eq!(
        peer.session.poll_effect().map(|effect| format!("{effect:?}")),
        Some("Closed(WebSocketEnded)".into())
    );
}

#[test]
fn server_closes_by_the_held_poll_or_the_next_one() {
    let mut peer = Peer::open(Transport::Polling);
    assert_eq!(peer.poll(), Ok(nothing()));
    assert_eq!(peer.close(), ["poll: 1", "ended: ClosedByServer"]);

    let mut peer = Peer::open(Transport::Polling);
    assert_eq!(peer.send("last"), Ok(nothing()));
    assert_eq!(peer.close(), nothing());
    assert!(!peer.session.is_open());
    assert_eq!(peer.send("too late"), Err(QueueError::NotPolling));
    assert_eq!(peer.post("4ignored"), Ok(nothing()));
    assert_eq!(peer.received, nothing());
    assert_eq!(peer.poll(), Ok(vec!["poll: 4last|1".into(), "ended: ClosedByServer".into()]));

    let mut peer = Peer::upgraded();
    assert_eq!(peer.close(), ["websocket closed", "ended: ClosedByServer"]);
}

#[test]
fn closed_session_that_nobody_polls_is_dropped() {
    let mut peer = Peer::open(Transport::Polling);
    assert_eq!(peer.close(), nothing());
    assert_eq!(peer.upgrade(), Ok(UpgradeAnswer::Close));
    assert_eq!(peer.pass(2999), nothing());
    assert_eq!(peer.pass(1), ["ended: ClosedByServer"]);
    assert_eq!(peer.poll(), Err(RequestError::UnknownSession));
}

#[test]
fn queue_is_bounded_and_refuses_whole_packets() {
    let mut peer = Peer::open(Transport::Polling);
    let text = "x".repeat(198);
    assert_eq!(peer.send(&text), Ok(nothing()));
    assert_eq!(peer.send(&text), Ok(nothing()));
    assert_eq!(peer.send(""), Err(QueueError::Full));
    assert_eq!(peer.session.queued_bytes(), 400);
    // The ping has room all the same.
    assert_eq!(peer.pass(300), nothing());
    let answer = peer.poll().expect("a poll");
    assert_eq!(answer, [format!("poll: 4{text}|4{text}|2")]);
    assert_eq!(peer.session.queued_bytes(), 0);
    peer.session.abort(CloseReason::SlowConsumer);
    assert_eq!(peer.poll(), Err(RequestError::UnknownSession));
}

// Upgrades

#[test]
fn upgrade_moves_the_session_to_the_websocket() {
    let mut peer = Peer::open(Transport::Polling);
    assert_eq!(peer.upgrade(), Ok(UpgradeAnswer::Probe));
    assert_eq!(peer.probe("2probe"), ["probe: 3probe"]);
    assert_eq!(peer.poll(), Ok(vec!["poll: 6".into()]), "polls are sent home");
    assert_eq!(peer.probe("5"), ["upgraded"]);
    assert_eq!(peer.frame("4hello"), ["frame: 4hello"]);
    assert_eq!(peer.poll(), Err(RequestError::BadRequest));
    assert_eq!(peer.post("4a"), Err(RequestError::BadRequest));
    assert_eq!(peer.pass(300), ["frame: 2"]);
}

#[test]
fn held_poll_is_released_by_the_probe() {
    let mut peer = Peer::open(Transport::Polling);
    assert_eq!(peer.poll(), Ok(nothing()));
    assert_eq!(peer.upgrade(), Ok(UpgradeAnswer::Probe));
    assert_eq!(peer.probe("2probe"), ["poll: 6", "probe: 3probe"]);
}

#[test]
fn polling_goes_on_until_the_upgrade_is_complete_and_what_waits_moves() {
    let mut peer = Peer::probing();
    assert_eq!(peer.send("a"), Ok(nothing()));
    assert_eq!(peer.poll(), Ok(vec!["poll: 4a".into()]), "a packet instead of a noop");
    assert_eq!(peer.post("4b\x1ebAAEC"), Ok(nothing()));
    assert_eq!(peer.pass(300), nothing());
    assert_eq!(peer.probe("5"), ["upgraded", "frame: 4b", "frame: [0, 1, 2]", "frame: 2"]);
    assert_eq!(peer.frame("3"), nothing());
    assert_eq!(peer.send("c"), Ok(vec!["frame: 4c".into()]));
    assert_eq!(peer.session.queued_bytes(), 0);
}

#[test]
fn requests_that_are_under_way_at_the_upgrade_are_ended() {
    let mut peer = Peer::probing();
    assert_eq!(peer.post_head(PostHead::default()), Ok(()));
    assert_eq!(peer.probe("5"), ["post cut", "upgraded"]);
}

#[test]
fn second_websocket_is_closed_and_disturbs_nobody() {
    let mut peer = Peer::open(Transport::Polling);
    assert_eq!(peer.upgrade(), Ok(UpgradeAnswer::Probe));
    assert_eq!(peer.upgrade(), Ok(UpgradeAnswer::Close), "one probes already");
    assert_eq!(peer.probe("2probe"), ["probe: 3probe"]);
    assert_eq!(peer.probe("5"), ["upgraded"]);
    assert_eq!(peer.upgrade(), Ok(UpgradeAnswer::Close));
    assert_eq!(peer.frame("4hello"), ["frame: 4hello"]);
}

#[test]
fn probe_that_is_not_completed_is_closed_and_polling_goes_on() {
    let mut peer = Peer::open(Transport::Polling);
    assert_eq!(peer.upgrade(), Ok(UpgradeAnswer::Probe));
    for _ in 0..3 {
        assert_eq!(peer.pass(300), nothing());
        assert_eq!(peer.poll(), Ok(vec!["poll: 2".into()]));
        assert_eq!(peer.post("3"), Ok(nothing()));
    }
    assert_eq!(peer.pass(100), ["probe closed"]);
    assert_eq!(peer.probe("2probe"), nothing(), "what the closed WebSocket still says is not heard");
    assert_eq!(peer.upgrade(), Ok(UpgradeAnswer::Probe), "another one may try");
}

#[test]
fn probe_that_says_anything_else_is_closed_and_polling_goes_on() {
    for packets in
        [&["5"][..], &["2"], &["4hello"], &["3probe"], &["x"], &["2probe", "4hello"], &["2probe", "2prob"]]
    {
        let mut peer = Peer::open(Transport::Polling);
        assert_eq!(peer.upgrade(), Ok(UpgradeAnswer::Probe));
        let out: Vec<String> = packets.iter().flat_map(|packet| peer.probe(packet)).collect();
        assert_eq!(out.last().map(String::as_str), Some("probe closed"), "{packets:?}");
        assert_eq!(peer.received, nothing());
        assert_eq!(peer.send("a"), Ok(nothing()));
        assert_eq!(peer.poll(), Ok(vec!["poll: 4a".into()]));
    }
}

#[test]
fn session_that_is_closed_in_mid_upgrade_ends_when_the_upgrade_is_complete() {
    // The client has stopped polling and would not see the close before its own time-out.
    let mut peer = Peer::probing();
    assert_eq!(peer.send("last"), Ok(nothing()));
    assert_eq!(peer.close(), nothing());
    let closed = ["upgraded", "frame: 4last", "frame: 1", "websocket closed", "ended: ClosedByServer"];
    assert_eq!(peer.probe("5"), closed);
    // It may also go on polling, or do neither.
    let mut peer = Peer::probing();
    assert_eq!(peer.close(), nothing());
    assert_eq!(
        peer.poll(),
        Ok(vec!["poll: 1".into(), "probe closed".into(), "ended: ClosedByServer".into()])
    );
    let mut peer = Peer::probing();
    assert_eq!(peer.close(), nothing());
    assert_eq!(peer.pass(1000), ["probe closed"]);
    assert_eq!(peer.pass(2000), ["ended: ClosedByServer"]);
}

#[test]
fn probe_ends_with_its_session_and_the_session_does_not_end_with_it() {
    let mut peer = Peer::probing();
    assert_eq!(peer.post("1"), Ok(vec!["probe closed".into(), "ended: ClosedByPeer".into()]));
    assert_eq!(peer.upgrade(), Err(RequestError::UnknownSession));
    let mut peer = Peer::probing();
    assert_eq!(peer.cut(Action::Upgrade), nothing());
    assert_eq!(peer.poll(), Ok(nothing()), "no noop any more");
    assert_eq!(peer.send("a"), Ok(vec!["poll: 4a".into()]));
}
