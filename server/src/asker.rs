//! The askers of the engine. The token of a question whose answer comes later names its asker.

/// The asker that waits for an answer.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Asker {
    /// A request of the HTTP API.
    Request,
    /// The WebSocket of a back end.
    BackEnd,
    /// A call of a back end of Channelstream.
    Place,
    /// The control plane.
    ControlPlane,
    /// No asker waits for the answer.
    Nobody,
}

/// A token's highest bits are its asker; the others count.
const COUNT_BITS: u32 = 56;

impl Asker {
    const ALL: [Self; 5] = [Self::Request, Self::BackEnd, Self::Place, Self::ControlPlane, Self::Nobody];

    /// The asker of the question with this token.
    pub(crate) fn of(token: u64) -> Self {
        let at = usize::try_from(token >> COUNT_BITS).unwrap_or(usize::MAX);
        Self::ALL.get(at).copied().unwrap_or(Self::Nobody)
    }
}

/// Tokens of one asker. No two questions of a worker have the same.
pub(crate) struct Tokens {
    last: u64,
}

impl Tokens {
    /// The token of every question whose answer nobody waits for.
    pub(crate) const UNAWAITED: u64 = (Asker::Nobody as u64) << COUNT_BITS;

    pub(crate) fn of(asker: Asker) -> Self {
        Self { last: (asker as u64) << COUNT_BITS }
    }

    /// The token of the next question.
    pub(crate) fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_tells_who_asks() {
        for asker in Asker::ALL {
            let mut tokens = Tokens::of(asker);
            let (first, second) = (tokens.next(), tokens.next());
            assert_ne!(first, second);
            assert_eq!([first, second].map(Asker::of), [asker, asker]);
        }
        assert_eq!([Tokens::UNAWAITED, u64::MAX].map(Asker::of), [Asker::Nobody, Asker::Nobody]);
    }
}
