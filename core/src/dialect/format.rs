//! Wire formats, and sets of them.

/// How a session wants what it receives: a dialect together with its framing.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
#[repr(u8)]
pub enum Format {
    /// Native; binary payloads in binary frames.
    Native = 0,
    /// Native; everything in text frames, binary payloads as base64.
    NativeText = 1,
    /// The format of Agnost's clients over a WebSocket.
    AgnostFrames = 2,
    /// The format of Xano's clients over a WebSocket.
    XanoFrames = 3,
    /// The format of Channelstream's clients over a WebSocket.
    ChannelstreamFrames = 4,
    /// The format of Agnost's clients that poll.
    AgnostPackets = 5,
    /// The format of Channelstream's clients that poll.
    ChannelstreamPolls = 6,
    /// The tests' dialect, pushed.
    #[cfg(test)]
    ProbePush = 7,
    /// The tests' dialect, polled.
    #[cfg(test)]
    ProbePoll = 8,
}

impl Format {
    /// All of them, by number.
    pub const ALL: &'static [Format] = &[
        Format::Native,
        Format::NativeText,
        Format::AgnostFrames,
        Format::XanoFrames,
        Format::ChannelstreamFrames,
        Format::AgnostPackets,
        Format::ChannelstreamPolls,
        #[cfg(test)]
        Format::ProbePush,
        #[cfg(test)]
        Format::ProbePoll,
    ];
}

/// A set of formats, one bit each.
#[derive(Copy, Clone, Eq, PartialEq, Default, Debug)]
pub struct FormatSet(u16);

const _: () = assert!(Format::ALL.len() <= u16::BITS as usize, "each format has its bit");

impl FormatSet {
    /// Adds a format.
    #[inline]
    pub fn insert(&mut self, format: Format) {
        self.0 |= 1 << format as u8;
    }

    /// Whether the format is in it.
    pub fn contains(self, format: Format) -> bool {
        self.0 & 1 << format as u8 != 0
    }

    /// Whether no format is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl Iterator for FormatSet {
    type Item = Format;

    #[inline]
    fn next(&mut self) -> Option<Format> {
        let format = Format::ALL.get(self.0.trailing_zeros() as usize)?;
        self.0 &= self.0 - 1;
        Some(*format)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_yields_its_formats_once_by_number() {
        let mut set = FormatSet::default();
        assert!(set.is_empty() && set.count() == 0);
        for format in [Format::ProbePoll, Format::Native, Format::ProbePoll] {
            set.insert(format);
        }
        assert!(set.contains(Format::Native) && !set.contains(Format::NativeText));
        assert_eq!(set.collect::<Vec<_>>(), [Format::Native, Format::ProbePoll]);
        assert!(Format::ALL.iter().enumerate().all(|(number, format)| *format as usize == number));
    }
}
