//! The time of a turn, as the shell reads it: core has no clock of its own.

/// One moment on two clocks.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct Now {
    /// Unix milliseconds: what tokens, message ids and answers speak of. It may step either way.
    pub unix_ms: u64,
    /// Milliseconds on a clock that never steps back: what allowances, deadlines and expiry are measured on.
    pub steady_ms: u64,
}

impl From<u64> for Now {
    /// Both clocks show `ms`, as in tests and simulations.
    fn from(ms: u64) -> Self {
        Self { unix_ms: ms, steady_ms: ms }
    }
}
