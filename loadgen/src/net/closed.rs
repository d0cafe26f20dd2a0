//! Why a connection is no more, and what there is to say about it.

use std::io::{self, ErrorKind};

/// Why a connection is no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Closed {
    /// We closed it.
    ByUs,
    /// The server closed it, with this code and reason.
    ByPeer(Option<(u16, String)>),
    /// There is nobody to connect to, or nothing to connect with: one sentence.
    Unreachable(String),
    /// The handshake failed: one sentence.
    Refused(String),
    /// It broke: one sentence.
    Broken(String),
}

impl Closed {
    /// What there is to say about it, unless we closed it ourselves.
    pub(crate) fn into_sentence(self) -> Option<String> {
        Some(match self {
            Self::ByUs => return None,
            Self::Unreachable(sentence) | Self::Refused(sentence) => sentence,
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

/// Why a connection could not be made: one sentence.
pub(super) fn describe(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable => {
            format!(
                "No local port is free for one more connection ({error}); more --sources have more ports."
            )
        }
        _ => format!("A connection could not be made: {error}."),
    }
}
