//! Why a connection is no more, and what there is to say about it.

use std::io::{self, ErrorKind};

use crate::verdict::Blame;

/// Why a connection is no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Closed {
    /// We closed it.
    ByUs,
    /// The server closed it, with this code and reason.
    ByPeer(Option<(u16, String)>),
    /// There is nobody to connect to: one sentence.
    Unreachable(String),
    /// There is nothing to connect with: one sentence.
    NoPort(String),
    /// The handshake failed: one sentence.
    Refused(String),
    /// It broke: one sentence.
    Broken(String),
}

impl Closed {
    /// A connection could not be made.
    pub(super) fn unreachable(error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable => Self::NoPort(format!(
                "No local port is free for one more connection ({error}); more --sources have more ports."
            )),
            _ => Self::Unreachable(format!("A connection could not be made: {error}.")),
        }
    }

    /// Whose fault that is.
    pub(crate) fn blame(&self) -> Blame {
        match self {
            Self::NoPort(_) => Blame::Generator,
            _ => Blame::Server,
        }
    }

    /// What there is to say about it, unless we closed it ourselves.
    pub(crate) fn into_sentence(self) -> Option<String> {
        Some(match self {
            Self::ByUs => return None,
            Self::Unreachable(sentence) | Self::NoPort(sentence) | Self::Refused(sentence) => sentence,
            Self::ByPeer(Some((code, reason))) if reason.is_empty() => {
                format!("The server closed a connection with code {code}.")
            }
            Self::ByPeer(Some((code, reason))) => {
                format!("The server closed a connection with code {code}: {reason}.")
            }
            Self::ByPeer(None) => "The server closed a connection without a word.".into(),
            Self::Broken(what) => format!("A connection broke: {what}."),
        })
    }
}
