//! Inquiries: questions of the control plane to a worker, which answers them between its own work.
//!
//! ```text
//!   admin thread: Inquiry ─▶ the worker's queue, wake ──▶ Engine::request ──▶ Answered ─▶ admin thread
//! ```
//!
//! A worker's queue holds at most [`INQUIRIES`] questions. A question to a full queue is refused. A worker
//! without questions only checks the length of its queue once a turn.

use bytes::{Bytes, BytesMut};
use fanfare_core::{
    command::{BackEndCommand, Outcome},
    dialect::native_http::{self, AnswerShape, Refusal, RequestReader, Resource},
    error::ReplyError,
    id::AppId,
    json::write_string,
};
use hashbrown::HashMap;
use tokio::sync::oneshot;

use super::Worker;
use crate::http::access::Parameters;

/// The most questions that wait for one worker.
pub(crate) const INQUIRIES: usize = 64;

/// The bits that every token of an inquiry has. Other tokens count up from 1 or from 2^63.
const TOKEN: u64 = 0b11 << 62;

/// A question to a worker's engine.
pub(crate) struct Inquiry {
    pub(crate) app: AppId,
    pub(crate) ask: Ask,
    pub(crate) answer: oneshot::Sender<Answered>,
}

/// The question of an inquiry.
pub(crate) enum Ask {
    /// A request of the HTTP API that is one command.
    Request { method: &'static str, path: String, query: String, body: Bytes },
    /// A question for samples of a channel's publications.
    Watch { channel: String, after: u64 },
}

/// The answer: an HTTP status and JSON.
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
}

/// Inquiries that wait for other workers.
#[derive(Default)]
pub(super) struct Inquiries {
    reader: RequestReader,
    waiting: HashMap<u64, oneshot::Sender<Answered>>,
    last: u64,
}

impl Answered {
    /// The answer that refuses an inquiry.
    pub(crate) fn refusal(status: u16, code: &str, detail: &str) -> Self {
        let mut body = BytesMut::from(&b"{\"code\":"[..]);
        write_string(&mut body, code);
        body.extend_from_slice(b",\"detail\":");
        write_string(&mut body, detail);
        body.extend_from_slice(b"}");
        Self { status, body: body.freeze() }
    }

    fn of(result: &Result<Outcome, ReplyError>) -> Self {
        let mut body = BytesMut::new();
        match native_http::put_answer(&mut body, AnswerShape::One, [result]) {
            Ok(()) => Self { status: 200, body: body.freeze() },
            Err(refusal) => refusal.into(),
        }
    }
}

impl From<Refusal> for Answered {
    fn from(Refusal { status, code, detail }: Refusal) -> Self {
        Self::refusal(status, code, &detail)
    }
}

impl Worker {
    /// Handles the waiting inquiries, as far as this worker can answer them.
    pub(super) fn take_inquiries(&mut self) {
        while let Some(inquiry) = self.control.inquiries[usize::from(self.id.0)].pop() {
            let Inquiry { app, ask, answer } = inquiry;
            let answered = match ask {
                Ask::Watch { channel, after } => {
                    let command = BackEndCommand::Watch { channel: &channel, after };
                    self.inquire(app, command)
                }
                Ask::Request { method, path, query, body } => {
                    match self.inquire_request(app, (method, &path, &query), &body) {
                        Ok(answered) => answered,
                        Err(refusal) => Some(refusal.into()),
                    }
                }
            };
            match answered {
                // The asker may have gone.
                Some(answered) => drop(answer.send(answered)),
                None => drop(self.inquiries.waiting.insert(self.inquiries.last, answer)),
            }
        }
    }

    /// Hands an outcome to the control plane, if `token` is an inquiry's. Returns whether it is.
    pub(super) fn is_for_inquiry(&mut self, token: u64, result: &Result<Outcome, ReplyError>) -> bool {
        if token & TOKEN != TOKEN {
            return false;
        }
        if let Some(answer) = self.inquiries.waiting.remove(&token) {
            // The asker may have gone.
            drop(answer.send(Answered::of(result)));
        }
        true
    }

    /// Executes the command of an inquiry; `None` if the answer comes later.
    fn inquire(&mut self, app: AppId, command: BackEndCommand<'_>) -> Option<Answered> {
        self.inquiries.last = (self.inquiries.last + 1) | TOKEN;
        let result = self.engine.request(app, command, self.inquiries.last)?;
        Some(Answered::of(&result))
    }

    fn inquire_request(
        &mut self,
        app: AppId,
        (method, path, query): (&str, &str, &str),
        body: &[u8],
    ) -> Result<Option<Answered>, Refusal> {
        let refusal = |detail: String| Refusal::invalid(detail);
        let resource = Resource::at(path).ok_or_else(|| refusal("There is nothing here.".into()))?;
        let parameters =
            Parameters::read(Some(query)).map_err(|problem| refusal(problem.detail.into_owned()))?;
        let request = native_http::Request { resource, method, query: parameters.request_query(), body };
        let mut reader = std::mem::take(&mut self.inquiries.reader);
        let mut answered = None;
        let read = reader.read(&request, &mut |command| {
            answered = match command {
                Ok(command) => self.inquire(app, command),
                Err(error) => Some(Answered::of(&Err(error))),
            };
        });
        self.inquiries.reader = reader;
        read?;
        Ok(answered)
    }
}
