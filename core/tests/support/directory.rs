//! A back end of Channelstream before an engine and a directory, as the shell connects them.

use fanfare_core::{
    dialect::channelstream::{
        Answer, Body, Call, Directory, DirectoryLimits, Effect, Heard, Hearing, Matter, Moment, Request,
    },
    engine::Engine,
    id::AppId,
};
use serde_json::{Value, json};

const APP: AppId = AppId(0);
/// The token of the question about the first matter of a call.
const MATTERS: u64 = 1 << 32;

/// A directory with its clock.
pub(crate) struct BackEnd {
    pub(crate) directory: Directory,
    pub(crate) now: Moment,
    calls: u128,
}

/// The course of a call.
pub(crate) enum Course {
    Answered(u16, Value),
    /// The call waits for triggers.
    Waits(Hearing),
}

impl Course {
    pub(crate) fn answer(self) -> (u16, Value) {
        match self {
            Self::Answered(status, answer) => (status, answer),
            Self::Waits(_) => panic!("the call waits for triggers"),
        }
    }
}

impl BackEnd {
    pub(crate) fn new(engine: &Engine, now: Moment) -> Self {
        let states = engine.node().user_states(APP).clone();
        Self { directory: Directory::new(DirectoryLimits::default(), 1, now, states), now, calls: 0 }
    }

    pub(crate) fn call(&mut self, engine: &mut Engine, call: Call, body: &Value) -> Course {
        let body = Body::read(body.to_string().as_bytes());
        let matters = self.directory.matters(&self.request(call, &body));
        let mut hearing = Hearing::new(call, None, body, matters.len());
        for matter in &matters {
            let Matter { at, .. } = matter;
            if let Some(verdict) = engine.request(APP, matter.command(), MATTERS + *at as u64) {
                hearing.on_verdict(*at, verdict);
            }
        }
        self.go_on(engine, hearing)
    }

    /// Goes on with a call after verdicts have come.
    pub(crate) fn go_on(&mut self, engine: &mut Engine, mut hearing: Hearing) -> Course {
        for (token, verdict) in engine.take_answers() {
            if let Some(at) = token.checked_sub(MATTERS) {
                hearing.on_verdict(usize::try_from(at).expect("calls are short"), verdict);
            }
        }
        if !hearing.is_over() {
            return Course::Waits(hearing);
        }
        let (answer, effects) = match hearing.decide() {
            Ok(Heard { call, body, .. }) => {
                let mut effects = Vec::new();
                self.calls += 1;
                let answer = self.request(call, &body);
                let mut answer = self.directory.handle(&answer, &mut effects);
                while !answer.is_complete() {
                    self.directory.go_on(&mut answer);
                }
                (answer, effects)
            }
            Err(answer) => (answer, Vec::new()),
        };
        follow_up(engine, &effects);
        Course::Answered(answer.status, read(&answer))
    }

    fn request<'a>(&self, call: Call, body: &'a Body) -> Request<'a> {
        let (now, entropy) = (self.now, self.calls);
        Request { call, method: "POST", body, conn_id: None, entropy, now, version: "1" }
    }

    /// What back ends see of a channel.
    pub(crate) fn channel(&mut self, engine: &mut Engine, name: &str) -> Value {
        let body = json!({"info": {"channels": [name]}});
        self.call(engine, Call::Info, &body).answer().1["channels"][name].clone()
    }
}

/// Has the engine make effects happen.
pub(crate) fn follow_up(engine: &mut Engine, effects: &[Effect]) {
    let app = engine.apps().of(APP).clone();
    for effect in effects {
        engine.request(APP, effect.command(&app), 0);
    }
}

fn read(answer: &Answer) -> Value {
    serde_json::from_str(&answer.text()).expect("an answer is JSON")
}
