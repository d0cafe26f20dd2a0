//! A server that ends: its sessions leave together.

mod support;
mod workers;

use fanfare_core::{
    engine::{Segments, Sink},
    ws::{OpCode, put_frame},
};
use serde_json::json;
use workers::Workers;

const MEMBERS: usize = 3_000;
const LAST: &[u8] = b"the server restarts";

/// Counts bytes.
#[derive(Default)]
struct Tally(usize);

impl Sink for Tally {
    fn write(&mut self, _: u32, parts: Segments<'_>) -> usize {
        self.0 += parts.map(|(_, range)| range.len()).sum::<usize>();
        0
    }
}

/// Members on two workers, each with a user of its own, all in one channel that announces members and users.
fn crowd() -> Workers {
    let mut workers = Workers::new(2, 1 << 16, |app| app.presence_by_user = true);
    let mut sink = Tally::default();
    for member in 0..MEMBERS {
        workers.open_as(member % 2, Some(&format!("user-{member}")));
        workers.command(member, &json!({"type": "join", "channel": "room", "echo": false}));
        for engine in &mut workers.engines {
            engine.begin_turn(1);
            engine.on_mail();
            engine.flush(&mut sink);
        }
    }
    workers
}

/// Ends every session with a last word, half of each worker's in one turn. Returns the bytes that are
/// written.
fn end_all(workers: &mut Workers) -> usize {
    let mut sink = Tally::default();
    for sessions in workers.sessions.chunks(MEMBERS / 2) {
        for &(worker, slot) in sessions {
            workers.engines[worker].end(slot, |out| put_frame(out, OpCode::Text, LAST));
        }
        for _ in 0..4 {
            for engine in &mut workers.engines {
                engine.on_mail();
                engine.flush(&mut sink);
            }
        }
    }
    sink.0
}

#[test]
fn sessions_that_leave_for_a_drain_are_told_the_last_word_alone() {
    let mut workers = crowd();
    workers.engines.iter_mut().for_each(|engine| engine.begin_drain());
    let written = end_all(&mut workers);
    assert_eq!(written, MEMBERS * (LAST.len() + 2), "a frame of the last word for each session");
    assert_eq!(workers.engines.iter().map(|engine| engine.sessions()).sum::<usize>(), 0);
    assert_eq!(workers.node.channels(), 0);
}
