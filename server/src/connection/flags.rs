//! The yes-or-no state of a connection, in two bytes.

/// One fact about a connection that holds or does not.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
#[repr(u16)]
pub(crate) enum Flag {
    /// A command or request waits for another thread: no more is read or handled.
    Paused = 1 << 0,
    /// Output waits for the peer. The connection is not read until the peer has taken the output.
    Held = 1 << 1,
    /// The poll tells when the socket takes bytes again. It does not from the start, for most sockets never
    /// fill.
    Watched = 1 << 2,
    /// A ping was sent, and nothing was read since.
    Pinged = 1 << 3,
    /// At least one HTTP request was answered.
    Served = 1 << 4,
    /// The connection is on the ready list.
    Ready = 1 << 5,
    /// The kernel says that the peer sends no more: a read must go on until it returns 0.
    HalfClosed = 1 << 6,
    /// The peer has said its last word: its close frame, or all that it sends, has been read.
    PeerDone = 1 << 7,
    /// The request under way was admitted by the worker that handed the connection over.
    Admitted = 1 << 8,
}

/// The flags of a connection that are up.
#[derive(Copy, Clone, Default)]
pub(crate) struct Flags(u16);

impl Flags {
    pub(crate) fn has(self, flag: Flag) -> bool {
        self.0 & flag as u16 != 0
    }

    /// Puts `flag` up. Returns whether it was down.
    pub(crate) fn raise(&mut self, flag: Flag) -> bool {
        let was_down = !self.has(flag);
        self.0 |= flag as u16;
        was_down
    }

    /// Takes `flag` down. Returns whether it was up.
    pub(crate) fn lower(&mut self, flag: Flag) -> bool {
        let was_up = self.has(flag);
        self.0 &= !(flag as u16);
        was_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_independent_and_tell_what_changed() {
        let mut flags = Flags::default();
        assert!(flags.raise(Flag::Paused) && !flags.raise(Flag::Paused));
        assert!(flags.raise(Flag::HalfClosed));
        assert!(flags.has(Flag::Paused) && !flags.has(Flag::Held));
        assert!(flags.lower(Flag::Paused) && !flags.lower(Flag::Paused));
        assert!(flags.has(Flag::HalfClosed));
    }
}
