//! What back ends ask of several workers at once: all members of a channel, and one order for a user.

mod support;
mod workers;

use fanfare_core::{
    command::{BackEndCommand, Outcome},
    error::ReplyError,
    id::AppId,
    publication::Payload,
};
use serde_json::json;
use workers::Workers;

const ALL: BackEndCommand<'static> = BackEndCommand::AllMembers("room");

fn ask(workers: &mut Workers, worker: usize) -> Result<usize, ReplyError> {
    let mut answer = workers.engines[worker].request(AppId(0), ALL, 1);
    for _ in 0..10 {
        if answer.is_some() {
            break;
        }
        workers.run_turns(1);
        answer = workers.engines[worker].take_answers().pop().map(|(_, answer)| answer);
    }
    match answer.expect("it is answered") {
        Ok(Outcome::AllMembers(members)) => Ok(members.len()),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error),
    }
}

fn join(workers: &mut Workers, members: usize) {
    for member in 0..members {
        let session = workers.open(member % workers.engines.len());
        workers.command(session, &json!({"type": "join", "channel": "room"}));
    }
    workers.run_until_idle();
}

#[test]
fn a_list_has_the_members_of_every_worker_and_is_refused_rather_than_shortened() {
    let mut workers = Workers::new(3, 64, |app| {
        app.announce = false;
        app.limits.members_bytes = 30 * 64;
    });
    assert_eq!(ask(&mut workers, 1), Ok(0));
    join(&mut workers, 30);
    for worker in 0..3 {
        assert_eq!(ask(&mut workers, worker), Ok(30));
    }
    join(&mut workers, 1);
    for worker in 0..3 {
        assert_eq!(ask(&mut workers, worker), Err(ReplyError::TooManyMembers));
    }
    let refused: Vec<_> =
        workers.engines.iter().map(|engine| engine.counters().member_lists_refused).collect();
    assert_eq!(refused, [1, 1, 1], "each refusal is counted where it was asked");
}

#[test]
fn a_worker_answers_one_whole_list_in_a_turn() {
    let mut workers = Workers::new(1, 64, |app| app.announce = false);
    join(&mut workers, 5);
    workers.run_turns(1);
    let answered = (0..4).map(|token| workers.engines[0].request(AppId(0), ALL, token)).collect::<Vec<_>>();
    assert_eq!(answered.iter().filter(|answer| answer.is_some()).count(), 1, "the rest waits");
    for turn in 1..4 {
        assert!(workers.engines[0].is_busy(), "it must not sleep");
        workers.engines[0].begin_turn(1);
        let answers = workers.engines[0].take_answers();
        assert_eq!(answers.len(), 1, "turn {turn}");
        assert_eq!(answers[0].0, turn, "in order");
    }
    assert!(!workers.engines[0].is_busy());
}

#[test]
fn all_sessions_of_a_user_receive_its_events_in_one_order() {
    let mut workers = Workers::new(3, 64, |_| {});
    let sessions = [0, 1, 2].map(|worker| workers.open_as(worker, Some("luke")));
    let stranger = workers.open_as(1, Some("leia"));
    workers.run_until_idle();
    for session in sessions.into_iter().chain([stranger]) {
        workers.received(session);
    }
    for round in 0..20 {
        for worker in 0..3 {
            let payload = format!("[{round},{worker}]");
            let command = BackEndCommand::PublishToUser {
                user: "luke",
                event: "e",
                payload: Payload::Json(&payload),
                note: None,
            };
            let answer = workers.engines[worker].request(AppId(0), command, 1);
            assert!(answer.is_none_or(|answer| answer.is_ok()));
        }
        // Mail is handled in another order each time.
        let first = round % 3;
        for engine in [first, (first + 2) % 3, (first + 1) % 3] {
            workers.engines[engine].on_mail();
        }
        workers.run_until_idle();
        workers.engines.iter_mut().for_each(|engine| drop(engine.take_answers()));
    }
    let seen = sessions.map(|session| {
        let frames = workers.received(session);
        frames.iter().map(|frame| frame["message"].to_string()).collect::<Vec<_>>()
    });
    assert_eq!(seen[0].len(), 60);
    assert!(seen[0] == seen[1] && seen[1] == seen[2], "{seen:?}");
    assert!(workers.received(stranger).is_empty());
}
