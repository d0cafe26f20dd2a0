//! What a run comes to, for people and for programs: whose fault it was, and the exit status that says so.

use serde::{Deserialize, Serialize};

/// Who is to blame for a reason why a run is no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blame {
    /// A threshold of the command line was passed.
    Threshold,
    /// The generator was the limit, or could not see.
    Generator,
    /// The server lost, refused, closed or changed something.
    Server,
    /// Somebody interrupted the run.
    Interrupted,
}

/// Why a run is no result: one sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// Who is to blame.
    pub blame: Blame,
    /// One sentence.
    pub sentence: String,
}

/// What a run comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Everything arrived as it should, and the numbers say what they seem to say.
    Clean,
    /// A threshold was passed.
    Threshold,
    /// The generator was the limit, or could not see.
    Generator,
    /// The server was at fault.
    Server,
    /// The run was interrupted.
    Interrupted,
}

impl Verdict {
    /// The worst of all reasons.
    pub fn of(reasons: &[Reason]) -> Self {
        reasons.iter().map(|reason| Self::from(reason.blame)).max().unwrap_or(Self::Clean)
    }

    /// The exit status that says this.
    pub fn exit_status(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Server => 1,
            Self::Generator => 3,
            Self::Threshold => 4,
            Self::Interrupted => 130,
        }
    }

    /// As it is called in every report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Server => "failed: the server",
            Self::Generator => "failed: the generator",
            Self::Threshold => "failed: a threshold",
            Self::Interrupted => "interrupted",
        }
    }
}

impl From<Blame> for Verdict {
    fn from(blame: Blame) -> Self {
        match blame {
            Blame::Threshold => Self::Threshold,
            Blame::Generator => Self::Generator,
            Blame::Server => Self::Server,
            Blame::Interrupted => Self::Interrupted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worst_reason_decides_the_exit_status() {
        let status = |blames: &[Blame]| {
            let reason = |blame: &Blame| Reason { blame: *blame, sentence: String::new() };
            Verdict::of(&blames.iter().map(reason).collect::<Vec<_>>()).exit_status()
        };
        assert_eq!(status(&[]), 0);
        assert_eq!(status(&[Blame::Threshold]), 4);
        assert_eq!(status(&[Blame::Threshold, Blame::Generator]), 3);
        assert_eq!(status(&[Blame::Generator, Blame::Server, Blame::Threshold]), 1);
        assert_eq!(status(&[Blame::Interrupted, Blame::Server]), 130);
    }
}
