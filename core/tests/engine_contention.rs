//! What happens while another worker is inside a channel's order, step by step: the test enters the order
//! itself and stays, as a thread does that the scheduler has stopped there.

mod support;
mod workers;

use fanfare_core::{
    disconnect::Disconnect,
    engine::Flow,
    id::{AppId, WorkerId},
    limits::COMBINED,
    ws::{OpCode, put_frame},
};
use serde_json::{Value, json};
use workers::Workers;

fn join() -> Value {
    json!({"id": "join", "type": "join", "channel": "room", "echo": false})
}

fn message(number: u64) -> Value {
    json!({"id": number, "type": "send", "channel": "room", "event": "e", "message": number})
}

/// Offsets of the messages among `frames`.
fn offsets(frames: &[Value]) -> Vec<u64> {
    frames.iter().filter_map(|frame| frame["offset"].as_u64()).collect()
}

#[test]
fn a_command_that_finds_the_order_taken_is_answered_when_it_is_left() {
    let mut workers = Workers::new(2, 64, |_| ());
    let (ada, bob) = (workers.open(0), workers.open(1));
    workers.command(ada, &join());
    workers.run_until_idle();
    workers.received(ada);
    workers.inside(0, |workers| {
        let frame = json!([join(), message(1), {"id": 2, "type": "ping"}]);
        assert_eq!(workers.send(bob, &frame), Flow::Pause);
        workers.run_until_idle();
        assert_eq!(workers.received(bob), [] as [Value; 0]);
        assert_eq!(workers.engines[1].take_unpaused(), [] as [u32; 0]);
    });
    workers.run_until_idle();
    assert_eq!(workers.engines[1].take_unpaused(), [1]);
    let bob_sees = workers.received(bob);
    let ids: Vec<&Value> = bob_sees.iter().filter_map(|frame| frame.get("id")).collect();
    assert_eq!(ids, [&json!("join"), &json!(1), &json!(2)]);
    assert_eq!(offsets(&bob_sees), [1]);
    let ada_sees = workers.received(ada);
    assert_eq!(ada_sees[0]["event"], "channel:join");
    assert_eq!(offsets(&ada_sees[1..]), [1]);
}

/// The second member on a worker whose first is still gaining interest is in the channel no sooner than the
/// first.
#[test]
fn a_join_is_not_answered_before_its_worker_has_interest() {
    let mut workers = Workers::new(2, 64, |app| app.announce = false);
    let (ada, bob, bea) = (workers.open(0), workers.open(1), workers.open(1));
    workers.command(ada, &join());
    workers.inside(0, |workers| {
        assert_eq!(workers.send(ada, &message(1)), Flow::Continue);
        assert_eq!(workers.send(bob, &join()), Flow::Pause);
        assert_eq!(workers.send(ada, &message(2)), Flow::Continue);
        assert_eq!(workers.send(bea, &join()), Flow::Pause);
        assert_eq!(workers.send(ada, &message(3)), Flow::Continue);
    });
    workers.run_until_idle();
    for session in [bob, bea] {
        let sees = workers.received(session);
        let position = sees.iter().find_map(|frame| frame["ok"]["offset"].as_u64());
        assert_eq!(position, Some(1), "{sees:?}");
        assert_eq!(offsets(&sees), [2, 3]);
    }
}

/// Messages that were published between a worker's look at its mail and its entering the order belong to the
/// stream of whoever joins there, so the position in the answer must be before them.
#[test]
fn a_joins_position_is_where_its_messages_begin() {
    let mut workers = Workers::new(2, 64, |_| ());
    let (ada, bob, bea) = (workers.open(0), workers.open(1), workers.open(1));
    for session in [ada, bob] {
        workers.command(session, &join());
    }
    workers.command(ada, &message(1));
    workers.run_until_idle();
    workers.received(bea);
    workers.inside(0, |workers| {
        assert_eq!(workers.send(ada, &message(2)), Flow::Continue);
        assert_eq!(workers.send(bea, &join()), Flow::Pause);
        assert_eq!(workers.send(ada, &message(3)), Flow::Continue);
    });
    workers.run_until_idle();
    let sees = workers.received(bea);
    let position =
        sees.iter().find_map(|frame| frame["ok"]["offset"].as_u64()).expect("the answer to the join");
    let offsets = offsets(&sees);
    assert_eq!(offsets, (position + 1..=3).collect::<Vec<_>>(), "{sees:?}");
}

/// A session joins and is gone; another joins before the first one's interest was even gained. Word of the
/// first one's interest must not be taken for the second one's.
#[test]
fn interest_of_a_member_that_is_gone_does_not_serve_the_next() {
    let mut workers = Workers::new(3, 64, |app| app.announce = false);
    let (ada, cy) = (workers.open(0), workers.open(2));
    let (bob, bea) = (workers.open(1), workers.open(1));
    workers.command(ada, &join());
    workers.inside(0, |workers| {
        assert_eq!(workers.send(bob, &join()), Flow::Pause);
        assert_eq!(workers.send(cy, &message(1)), Flow::Continue);
        workers.close(bob);
        assert_eq!(workers.send(ada, &message(2)), Flow::Continue);
        assert_eq!(workers.send(bea, &join()), Flow::Pause);
    });
    workers.command(ada, &message(3));
    workers.run_until_idle();
    let sees = workers.received(bea);
    assert_eq!(sees[0]["ok"]["offset"], 2);
    assert_eq!(offsets(&sees), [3], "{sees:?}");
}

/// The last member leaves while another worker's join waits behind it: that join is not lost.
#[test]
fn a_join_that_waits_behind_the_last_leave_keeps_the_channel() {
    for announce in [true, false] {
        let mut workers = Workers::new(2, 64, |app| app.announce = announce);
        let (ada, bob, bea) = (workers.open(0), workers.open(1), workers.open(1));
        workers.command(ada, &join());
        workers.inside(0, |workers| {
            assert_eq!(workers.send(ada, &json!({"type": "leave", "channel": "room"})), Flow::Pause);
            assert_eq!(workers.send(bob, &join()), Flow::Pause);
        });
        // Worker 1 does not know yet what became of the join when its second member comes.
        assert_eq!(workers.send(bea, &join()), Flow::Continue);
        // Her leave is in flight: what she sends after it is held until that is done.
        assert_eq!(workers.send(ada, &message(1)), Flow::Pause);
        workers.run_until_idle();
        for session in [bob, bea] {
            let sees = workers.received(session);
            assert_eq!(offsets(&sees), [1], "{announce} {sees:?}");
        }
        assert_eq!(workers.node.channels(), 1);
        for session in [ada, bob, bea] {
            workers.close(session);
        }
        workers.run_until_idle();
        assert_eq!(workers.node.channels(), 0);
    }
}

/// A message that finds nobody takes no offset, wherever it finds them gone.
#[test]
fn a_message_behind_the_last_leave_has_no_offset() {
    let mut workers = Workers::new(2, 64, |_| ());
    let (ada, bob) = (workers.open(0), workers.open(1));
    workers.command(ada, &join());
    workers.inside(0, |workers| {
        assert_eq!(workers.send(ada, &json!({"type": "leave", "channel": "room"})), Flow::Pause);
        assert_eq!(workers.send(bob, &message(1)), Flow::Continue);
    });
    workers.run_until_idle();
    assert_eq!(workers.received(bob)[0]["ok"]["offset"], Value::Null);
    assert_eq!(workers.node.channels(), 0);
}

/// Thousands of sessions may wait for one order, each with commands behind the one that waits.
#[test]
fn sessions_that_go_on_at_once_do_not_do_so_inside_each_other() {
    let mut workers = Workers::new(2, 1 << 20, |app| app.announce = false);
    let ada = workers.open(0);
    workers.command(ada, &join());
    let sessions: Vec<usize> = (0..20_000).map(|_| workers.open(1)).collect();
    workers.inside(0, |workers| {
        let frame = json!([message(1), join(), {"id": "end", "type": "ping"}]);
        for &session in &sessions {
            assert_eq!(workers.send(session, &frame), Flow::Pause);
        }
    });
    workers.run_turns(60);
    assert_eq!(workers.engines[1].take_unpaused().len(), sessions.len());
    let last = workers.received(sessions[sessions.len() - 1]);
    assert_eq!(last.iter().filter(|frame| frame["id"] == "end").count(), 1);
}

/// Thousands of operations that wait for one worker are applied over several turns; the workers that get mail
/// are woken after each, and whoever needs the lock meanwhile waits in line.
#[test]
fn a_worker_applies_a_bounded_number_of_operations_of_others_in_a_turn() {
    const SENDERS: usize = 2 * COMBINED + COMBINED / 2;
    let mut workers = Workers::new(2, 1 << 20, |app| app.announce = false);
    let (ada, bob) = (workers.open(0), workers.open(1));
    for session in [ada, bob] {
        workers.command(session, &join());
    }
    let senders: Vec<usize> = (0..SENDERS).map(|_| workers.open(1)).collect();
    workers.run_until_idle();
    workers.received(ada);
    workers.inside(0, |workers| {
        for &session in &senders {
            workers.engines[1].begin_turn(1);
            assert_eq!(workers.send(session, &message(1)), Flow::Continue);
        }
    });
    let channel = workers.node.channel(AppId(0), Some("room")).expect("somebody is in it");
    for turn in 0..3 {
        let applied = channel.offset();
        assert_eq!(applied, (COMBINED * (turn + 1)).min(SENDERS + turn) as u64);
        assert!(workers.engines[0].take_touched().contains(WorkerId(1)), "it has mail of turn {turn}");
        assert!(workers.engines[0].is_busy());
        // A member on the worker that is inside waits in line as well.
        assert_eq!(workers.send(ada, &message(2)), Flow::Continue);
        workers.engines[0].begin_turn(1);
        workers.engines[0].on_mail();
    }
    workers.run_until_idle();
    assert_eq!(offsets(&workers.received(bob)), (1..=SENDERS as u64 + 3).collect::<Vec<_>>());
    assert!(!workers.engines[0].is_busy());
}

/// Messages that a worker has taken from its mailbox but not yet handled count as well.
#[test]
fn a_worker_that_falls_behind_refuses_publishers_at_its_mailboxs_depth() {
    const DEPTH: usize = 16;
    let mut workers = Workers::new(2, DEPTH, |_| ());
    let (ada, bob) = (workers.open(0), workers.open(1));
    workers.command(bob, &join());
    workers.run_until_idle();
    workers.received(ada);
    let mut accepted = 0;
    for number in 0..10 * DEPTH as u64 {
        workers.command(ada, &message(number));
        // Worker 1 publishes itself, and so looks into its mailbox, but does not come round to handling it.
        workers.command(bob, &json!({"type": "send", "channel": "room", "event": "e"}));
        workers.engines[0].flush(&mut workers.sink);
        accepted += workers.received(ada).iter().filter(|frame| frame.get("ok").is_some()).count();
    }
    assert!(accepted <= DEPTH, "{accepted}");
    workers.run_until_idle();
    workers.command(ada, &message(0));
}

/// A connection's number may be given to another as soon as it is closed.
#[test]
fn nothing_is_said_about_a_connection_after_it_closed() {
    let mut workers = Workers::new(2, 64, |_| ());
    let (ada, bob) = (workers.open(0), workers.open(1));
    workers.command(ada, &join());
    workers.inside(0, |workers| {
        assert_eq!(workers.send(bob, &message(1)), Flow::Continue);
        assert_eq!(workers.send(bob, &json!({"id": "held", "type": "ping"})), Flow::Pause);
    });
    workers.close(bob);
    workers.run_until_idle();
    assert_eq!(workers.engines[1].take_unpaused(), [] as [u32; 0]);
    assert_eq!(workers.received(bob), [] as [Value; 0]);
}

/// A session that ended with a last word says and does nothing after it, whatever it was waiting for.
#[test]
fn a_session_that_ended_does_nothing_more() {
    let mut workers = Workers::new(2, 64, |_| ());
    let (ada, bob, cy) = (workers.open(0), workers.open(1), workers.open(1));
    for session in [ada, bob] {
        workers.command(session, &join());
    }
    workers.run_until_idle();
    workers.received(bob);
    workers.inside(0, |workers| {
        let then = json!({"id": "then", "type": "join", "channel": "other"});
        assert_eq!(workers.send(bob, &json!([message(1), then])), Flow::Pause);
        assert_eq!(workers.send(cy, &json!([message(2), then])), Flow::Pause);
    });
    for session in [bob, cy] {
        let (worker, slot) = workers.sessions[session];
        workers.engines[worker].end(slot, |out| put_frame(out, OpCode::Text, b"\"last\""));
    }
    // Its socket may fail before the last word is out.
    workers.close(cy);
    workers.run_until_idle();
    assert_eq!(workers.received(bob).last(), Some(&json!("last")));
    assert_eq!(workers.received(cy), [] as [Value; 0]);
    assert_eq!(workers.engines[1].take_unpaused(), [] as [u32; 0]);
    assert_eq!(workers.engines[1].sessions(), 0);
    workers.command(ada, &json!({"type": "send", "channel": "other", "event": "e"}));
    workers.run_until_idle();
    assert_eq!(workers.node.channels(), 1);
    assert_eq!(workers.node.sessions(AppId(0)), 1);
}

/// A shell sleeps when the engine is not busy, so what a flush leaves to be taken must keep it busy.
#[test]
fn a_slow_consumer_found_by_the_flush_keeps_the_engine_busy_until_it_is_taken() {
    let mut workers = Workers::new(1, 64, |app| app.limits.outbound_bytes = 10);
    let ada = workers.open(0);
    workers.sink.backlog = 11;
    workers.command(ada, &json!({"id": 1, "type": "ping"}));
    workers.run_until_idle();
    assert!(workers.engines[0].is_busy());
    assert_eq!(workers.engines[0].take_disconnects(), [(0, Disconnect::SlowConsumer)]);
    assert!(!workers.engines[0].is_busy());
}

/// What changes memberships and profiles makes notices, which are never lost, so it is refused before there
/// is no room for them.
#[test]
fn joins_and_updates_are_refused_while_a_mailbox_has_no_room_for_their_notices() {
    let mut workers = Workers::new(2, 64, |_| {});
    let (ada, bob) = (workers.open(0), workers.open(1));
    for session in [ada, bob] {
        workers.command(session, &join());
        workers.run_until_idle();
    }
    for session in [ada, bob] {
        workers.received(session);
    }
    let update = json!({"type": "update", "profile": 1, "echo": false});
    let updates = Value::Array(vec![update; 256]);
    let other = json!({"id": "join", "type": "join", "channel": "other"});
    let leave = json!({"id": "leave", "type": "leave", "channel": "room", "echo": false});
    // Worker 1 has no turn.
    for _ in 0..300 {
        workers.engines[0].begin_turn(1);
        workers.command(ada, &updates);
        workers.engines[0].flush(&mut workers.sink);
    }
    workers.engines[0].begin_turn(1);
    workers.command(ada, &json!([other, leave]));
    workers.engines[0].flush(&mut workers.sink);
    let answers = workers.received(ada);
    let (last, refused) = answers.split_last().expect("there are answers");
    assert_eq!(last["ok"]["left"], true, "leaving is never refused");
    assert!(refused.len() > 1_000 && refused.iter().all(|answer| answer["error"]["code"] == "overloaded"));
    assert_eq!(refused.last().expect("there are some")["id"], "join");
    let done = 300 * 256 - (refused.len() - 1);
    workers.run_turns(60);
    // A notice for each that was done, and one that she left.
    assert_eq!(workers.received(bob).len(), done + 1);
    workers.command(ada, &other);
    workers.run_until_idle();
    assert_eq!(workers.received(ada)[0]["ok"]["joined"], true);
}
