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
use crate::{
    asker::{Asker, Tokens},
    http::access::Parameters,
};

/// The most questions that wait for one worker.
pub(crate) const INQUIRIES: usize = 64;

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

/// The progress of an inquiry.
enum Inquired {
    Now(Answered),
    /// The inquiry is answered when the engine's answer with this token comes.
    Later {
        token: u64,
    },
}

/// Inquiries that wait for other workers.
pub(super) struct Inquiries {
    reader: RequestReader,
    tokens: Tokens,
    waiting: HashMap<u64, oneshot::Sender<Answered>>,
}

impl Default for Inquiries {
    fn default() -> Self {
        let tokens = Tokens::of(Asker::ControlPlane);
        Self { reader: RequestReader::default(), tokens, waiting: HashMap::new() }
    }
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
            let inquired = match ask {
                Ask::Watch { channel, after } => {
                    let command = BackEndCommand::Watch { channel: &channel, after };
                    self.inquire(app, command)
                }
                Ask::Request { method, path, query, body } => {
                    match self.inquire_request(app, (method, &path, &query), &body) {
                        Ok(inquired) => inquired,
                        Err(refusal) => Inquired::Now(refusal.into()),
                    }
                }
            };
            match inquired {
                // The asker may have gone.
                Inquired::Now(answered) => drop(answer.send(answered)),
                Inquired::Later { token } => drop(self.inquiries.waiting.insert(token, answer)),
            }
        }
    }

    /// An outcome for the control plane has come.
    pub(super) fn on_inquired(&mut self, token: u64, result: &Result<Outcome, ReplyError>) {
        if let Some(answer) = self.inquiries.waiting.remove(&token) {
            // The asker may have gone.
            drop(answer.send(Answered::of(result)));
        }
    }

    fn inquire(&mut self, app: AppId, command: BackEndCommand<'_>) -> Inquired {
        let token = self.inquiries.tokens.next();
        match self.engine.request(app, command, token) {
            Some(result) => Inquired::Now(Answered::of(&result)),
            None => Inquired::Later { token },
        }
    }

    fn inquire_request(
        &mut self,
        app: AppId,
        (method, path, query): (&str, &str, &str),
        body: &[u8],
    ) -> Result<Inquired, Refusal> {
        let refusal = |detail: String| Refusal::invalid(detail);
        let resource = Resource::at(path).ok_or_else(|| refusal("There is nothing here.".into()))?;
        let parameters =
            Parameters::read(Some(query)).map_err(|problem| refusal(problem.detail.into_owned()))?;
        let request = native_http::Request { resource, method, query: parameters.request_query(), body };
        let mut reader = std::mem::take(&mut self.inquiries.reader);
        let mut inquired = None;
        let read = reader.read(&request, &mut |command| {
            inquired = Some(match command {
                Ok(command) => self.inquire(app, command),
                Err(error) => Inquired::Now(Answered::of(&Err(error))),
            });
        });
        self.inquiries.reader = reader;
        read?;
        inquired.ok_or_else(|| refusal("It asks for nothing.".into()))
    }
}
