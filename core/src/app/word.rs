//! A channel's options as one word, for readers outside the channel's order. One load answers most questions.
//!
//! ```text
//!   bit   0        1         2            3      4               5..7   7..9      9..11    11..13     13
//!         history  announce  membership   drop   presence by     join   publish   direct   signed-in  roster
//!                            to send             user                                      messages
//!
//!   bit   14          15          16..26
//!         changes of  lists of    milliseconds for which
//!         user state  users       presence notices wait
//! ```
//!
//! The bits about senders are 0 in a channel that allows everybody everything.

use super::{ChannelOptions, SignedInMessages, SlowConsumer, Who};

/// A channel's options in one word; see the module's description.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct OptionsWord(u32);

const HISTORY: u32 = 1;
const ANNOUNCE: u32 = 1 << 1;
const MEMBERSHIP_TO_SEND: u32 = 1 << 2;
const DROP: u32 = 1 << 3;
const PRESENCE_BY_USER: u32 = 1 << 4;
const JOIN: u32 = 5;
const PUBLISH: u32 = 7;
const DIRECT: u32 = 9;
const SIGNED_IN: u32 = 11;
const ROSTER: u32 = 1 << 13;
const USER_STATE: u32 = 1 << 14;
const USER_LISTS: u32 = 1 << 15;
const PRESENCE_BATCH_MS: u32 = 16;
/// The mask of the milliseconds.
const MILLISECONDS: u32 = (1 << 10) - 1;
/// The mask of an option with two bits.
const PAIR: u32 = 0b11;

/// The bits about senders.
const SENDING: u32 = MEMBERSHIP_TO_SEND | PAIR << PUBLISH | PAIR << DIRECT | PAIR << SIGNED_IN;

impl OptionsWord {
    /// Inverse of [`OptionsWord::bits`].
    pub fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The word itself, to be kept in an atomic.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// Whether the channel remembers messages.
    pub fn has_history(self) -> bool {
        self.has(HISTORY)
    }

    /// Whether members are told who joins, leaves and updates.
    pub fn announces(self) -> bool {
        self.has(ANNOUNCE)
    }

    /// Whether members are told of the first and the last session of a user.
    pub fn shows_users(self) -> bool {
        self.has(PRESENCE_BY_USER)
    }

    /// Whether the channel keeps a list of its members.
    pub fn keeps_roster(self) -> bool {
        self.has(ROSTER)
    }

    /// Whether the channel counts the sessions of each user.
    pub fn counts_users(self) -> bool {
        self.has(PRESENCE_BY_USER | USER_STATE)
    }

    /// Whether members are told of changes of users' states.
    pub fn shows_user_state(self) -> bool {
        self.has(USER_STATE)
    }

    /// Whether notices of users have a list of them.
    pub fn shows_user_lists(self) -> bool {
        self.has(USER_LISTS)
    }

    /// For at most how many milliseconds presence notices wait for others.
    pub fn presence_batch_ms(self) -> u16 {
        (self.0 >> PRESENCE_BATCH_MS & MILLISECONDS) as u16
    }

    /// Whether only members may send.
    pub fn wants_membership(self) -> bool {
        self.has(MEMBERSHIP_TO_SEND)
    }

    /// The treatment of members that read too slowly.
    pub fn slow_consumer(self) -> SlowConsumer {
        if self.has(DROP) { SlowConsumer::Drop } else { SlowConsumer::Disconnect }
    }

    /// Whether every session may send every message to the channel.
    #[inline]
    pub fn is_open_to_senders(self) -> bool {
        self.0 & SENDING == 0
    }

    /// The sessions that may join and read.
    pub fn join(self) -> Who {
        self.who(JOIN)
    }

    /// The sessions that may publish to the members.
    pub fn publish(self) -> Who {
        self.who(PUBLISH)
    }

    /// The sessions that may send to a single member.
    pub fn direct(self) -> Who {
        self.who(DIRECT)
    }

    /// The rule about messages for signed-in members alone.
    pub fn signed_in_messages(self) -> SignedInMessages {
        match self.0 >> SIGNED_IN & PAIR {
            0 => SignedInMessages::Optional,
            1 => SignedInMessages::Never,
            _ => SignedInMessages::Always,
        }
    }

    fn has(self, bit: u32) -> bool {
        self.0 & bit != 0
    }

    fn who(self, shift: u32) -> Who {
        match self.0 >> shift & PAIR {
            0 => Who::Anybody,
            1 => Who::Users,
            _ => Who::Nobody,
        }
    }
}

impl From<ChannelOptions> for OptionsWord {
    fn from(options: ChannelOptions) -> Self {
        let bits = [
            (options.history.is_on(), HISTORY),
            (options.announce, ANNOUNCE),
            (options.membership_to_send, MEMBERSHIP_TO_SEND),
            (options.slow_consumer == SlowConsumer::Drop, DROP),
            (options.presence_by_user, PRESENCE_BY_USER),
            (options.roster, ROSTER),
            (options.user_state, USER_STATE),
            (options.user_lists, USER_LISTS),
        ];
        let who = |who| match who {
            Who::Anybody => 0,
            Who::Users => 1,
            Who::Nobody => 2,
        };
        let signed_in = match options.signed_in_messages {
            SignedInMessages::Optional => 0,
            SignedInMessages::Never => 1,
            SignedInMessages::Always => 2,
        };
        let pairs = who(options.join) << JOIN
            | who(options.publish) << PUBLISH
            | who(options.direct) << DIRECT
            | signed_in << SIGNED_IN
            | (u32::from(options.presence_batch_ms) & MILLISECONDS) << PRESENCE_BATCH_MS;
        Self(bits.into_iter().fold(pairs, |word, (is_set, bit)| if is_set { word | bit } else { word }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::HistoryLimits;

    const ALL: [Who; 3] = [Who::Anybody, Who::Users, Who::Nobody];

    #[test]
    fn a_word_says_what_the_options_say() {
        for n in 0..3 * 3 * 3 * 3 * 256usize {
            let flag = |bit: usize| n >> bit & 1 == 1;
            let (rest, pick) = (n / 256, |place: u32| n / 256 / 3usize.pow(place) % 3);
            let options = ChannelOptions {
                history: HistoryLimits { messages: u32::from(flag(0)), ..HistoryLimits::NONE },
                announce: flag(1),
                membership_to_send: flag(2),
                slow_consumer: if flag(3) { SlowConsumer::Drop } else { SlowConsumer::Disconnect },
                presence_by_user: flag(4),
                join: ALL[pick(0)],
                publish: ALL[pick(1)],
                direct: ALL[pick(2)],
                signed_in_messages: [
                    SignedInMessages::Optional,
                    SignedInMessages::Never,
                    SignedInMessages::Always,
                ][pick(3)],
                roster: flag(5),
                user_state: flag(6),
                user_lists: flag(7),
                presence_batch_ms: [0, 1, 20, 1000][n % 4],
            };
            let word = OptionsWord::from_bits(OptionsWord::from(options).bits());
            let said = ChannelOptions {
                history: HistoryLimits { messages: u32::from(word.has_history()), ..HistoryLimits::NONE },
                announce: word.announces(),
                membership_to_send: word.wants_membership(),
                slow_consumer: word.slow_consumer(),
                presence_by_user: word.shows_users(),
                join: word.join(),
                publish: word.publish(),
                direct: word.direct(),
                signed_in_messages: word.signed_in_messages(),
                roster: word.keeps_roster(),
                user_state: word.shows_user_state(),
                user_lists: word.shows_user_lists(),
                presence_batch_ms: word.presence_batch_ms(),
            };
            assert_eq!(said, options);
            assert_eq!(word.is_open_to_senders(), !flag(2) && rest / 3 == 0, "{options:?}");
        }
    }
}
