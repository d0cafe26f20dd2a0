//! Calls of back ends and clients. A call waits for the verdicts of the app's triggers before the directory
//! applies it, and its answer waits for the joins that the call caused.

use std::collections::HashMap;

use fanfare_core::{
    app::App,
    command::Outcome,
    dialect::channelstream::{Answer, Body, Call, Effect, Heard, Hearing, Moment, Request},
    error::ReplyError,
    http::Head,
};

use super::{
    super::{Worker, http::Next},
    Knock, Place, Reply,
};
use crate::{
    asker::{Asker, Tokens},
    connection::{ConnectionSlot, Flag},
    http::{api::Completed, channelstream::put_answer},
    sys::random_bits,
};

/// Calls that wait for the engine.
pub(in crate::worker) struct HeldCalls {
    tokens: Tokens,
    questions: HashMap<u64, Question>,
    /// The waiting call of each connection.
    waiting: HashMap<u64, HeldCall>,
}

/// A question to the engine.
struct Question {
    connection: u64,
    /// The place of a message or a channel in its call.
    at: usize,
}

struct HeldCall {
    stage: Stage,
    caller: Caller,
}

/// What a call waits for.
enum Stage {
    /// The verdicts of triggers.
    Verdicts(Hearing),
    /// So many effects of the call, before the answer is sent.
    Effects { missing: usize, answer: Answer },
}

/// How a call is answered, and to whom.
struct Caller {
    app: std::sync::Arc<App>,
    connection: u64,
    reply: Reply,
    origin: Option<String>,
}

impl Default for HeldCalls {
    fn default() -> Self {
        Self { tokens: Tokens::of(Asker::Place), questions: HashMap::new(), waiting: HashMap::new() }
    }
}

impl HeldCalls {
    /// Forgets the answer for a lost connection. A call whose triggers are asked takes effect nevertheless.
    pub(in crate::worker) fn forget(&mut self, connection: u64) {
        if let Some(HeldCall { stage: Stage::Effects { .. }, .. }) = self.waiting.get(&connection) {
            self.waiting.remove(&connection);
        }
    }
}

impl Worker {
    /// Applies a call, and answers it when all its effects have happened.
    pub(super) fn call(
        &mut self,
        place: &Place,
        call: Call,
        (knock, head, body): (&Knock<'_>, &Head<'_>, &[u8]),
        (slot, reply): (ConnectionSlot, Reply),
    ) -> Next {
        let origin = head.header_str("origin").map(String::from);
        let connection = self.connections.id(slot).token();
        let caller = Caller { app: place.app.clone(), connection, reply, origin };
        let conn_id = knock.conn_id.as_deref();
        let body = Body::read(body);
        let request = self.request(call, head.method, conn_id, &body);
        let matters = match self.engine.node().has_triggers(place.app.id) {
            true => place.directory().matters(&request),
            false => Vec::new(),
        };
        if matters.is_empty() {
            let completed = self.apply_call(place, &request, caller);
            return self.answer_call(slot, completed);
        }
        let mut hearing = Hearing::new(call, conn_id, body, matters.len());
        for matter in &matters {
            let token = self.held.tokens.next();
            match self.engine.request(place.app.id, matter.command(), token) {
                Some(verdict) => hearing.on_verdict(matter.at, verdict),
                None => {
                    self.held.questions.insert(token, Question { connection, at: matter.at });
                }
            }
        }
        let completed = self.go_on_hearing(place, hearing, caller);
        self.answer_call(slot, completed)
    }

    fn request<'a>(
        &self,
        call: Call,
        method: &'a str,
        conn_id: Option<&'a str>,
        body: &'a Body,
    ) -> Request<'a> {
        let (entropy, now) = (random_bits(), Moment(self.clock.unix_us()));
        Request { call, method, body, conn_id, entropy, now, version: env!("CARGO_PKG_VERSION") }
    }

    /// Sends the answer to a call, or has the connection wait for it.
    fn answer_call(&mut self, slot: ConnectionSlot, completed: Option<Completed>) -> Next {
        match completed {
            Some(completed) => self.sent(slot, completed.status, completed.persistence),
            None => {
                if let Some(connection) = self.connections.live(slot) {
                    connection.flags.raise(Flag::Paused);
                }
                Next::Wait
            }
        }
    }

    /// Applies a call if its triggers have decided.
    fn go_on_hearing(&mut self, place: &Place, hearing: Hearing, caller: Caller) -> Option<Completed> {
        if !hearing.is_over() {
            let held = HeldCall { stage: Stage::Verdicts(hearing), caller };
            self.held.waiting.insert(held.caller.connection, held);
            return None;
        }
        match hearing.decide() {
            Ok(Heard { call, conn_id, body }) => {
                // Only a disconnection depends on the method, and no trigger runs on it.
                let request = self.request(call, "POST", conn_id.as_deref(), &body);
                self.apply_call(place, &request, caller)
            }
            Err(answer) => Some(self.complete_call(place, &answer, &caller)),
        }
    }

    /// Applies a call. Returns the completed answer, which is in `out`, unless effects of the call have to
    /// happen first.
    fn apply_call(&mut self, place: &Place, request: &Request<'_>, caller: Caller) -> Option<Completed> {
        let mut effects = Vec::new();
        let mut directory = place.directory();
        let mut answer = directory.handle(request, &mut effects);
        let missing = self.follow_up(place, &effects, Some(caller.connection));
        drop(directory);
        place.complete(&mut answer);
        if missing > 0 {
            let held = HeldCall { stage: Stage::Effects { missing, answer }, caller };
            self.held.waiting.insert(held.caller.connection, held);
            return None;
        }
        Some(self.complete_call(place, &answer, &caller))
    }

    fn complete_call(&mut self, place: &Place, answer: &Answer, caller: &Caller) -> Completed {
        let Caller { connection, reply, origin, .. } = caller;
        let status = put_answer(&mut self.out, reply, &place.options, origin.as_deref(), answer);
        self.count_failed(status);
        Completed { connection: *connection, status, persistence: reply.persistence }
    }

    /// Hands the effects of a change to the engine while the directory is held. Returns how many answers of
    /// the engine `connection` waits for.
    pub(super) fn follow_up(&mut self, place: &Place, effects: &[Effect], connection: Option<u64>) -> usize {
        let app = self.engine.apps().of(place.app.id).clone();
        let mut missing = 0;
        for effect in effects {
            let connection = connection.filter(|_| effect.is_awaited());
            let token = connection.map_or(Tokens::UNAWAITED, |_| self.held.tokens.next());
            match (self.engine.request(app.id, effect.command(&app), token), connection) {
                (None, Some(connection)) => {
                    self.held.questions.insert(token, Question { connection, at: 0 });
                    missing += 1;
                }
                // The engine handles slow clients, and no call waits for the outcome.
                (Some(Err(error)), _) => tracing::debug!(?error, ?effect, "an effect of a call is refused"),
                _ => {}
            }
        }
        missing
    }

    /// Handles the answer to a question of a call. If the call waited for this answer alone, the call goes
    /// on. Returns the answer to the call, which is in `out`, if it is complete.
    pub(in crate::worker) fn on_place_answer(
        &mut self,
        token: u64,
        result: Result<Outcome, ReplyError>,
    ) -> Option<Completed> {
        let Question { connection, at } = self.held.questions.remove(&token)?;
        let HeldCall { stage, caller } = self.held.waiting.remove(&connection)?;
        let control = self.control.clone();
        let place = control.places.of(&caller.app)?;
        match stage {
            Stage::Verdicts(mut hearing) => {
                hearing.on_verdict(at, result);
                self.go_on_hearing(place, hearing, caller)
            }
            Stage::Effects { missing, answer } if missing > 1 => {
                let stage = Stage::Effects { missing: missing - 1, answer };
                self.held.waiting.insert(connection, HeldCall { stage, caller });
                None
            }
            Stage::Effects { answer, .. } => Some(self.complete_call(place, &answer, &caller)),
        }
    }
}
