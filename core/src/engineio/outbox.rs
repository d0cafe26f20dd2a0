//! What waits for the next poll: packets in [`Framing::Payload`], bounded in bytes.

use bytes::{Buf, Bytes, BytesMut};

use super::{Control, Framing, Packet, QueueError};
use crate::ws::{OpCode, put_frame};

/// Encoded packets, in order. Empty, or begins with a separator.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    packets: BytesMut,
    ping: Ping,
}

/// Whether a ping is among the packets. A second one would tell the client nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Ping {
    #[default]
    None,
    Waits,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.packets.len()
    }

    /// Appends packets encoded by [`Framing::Payload`], or nothing if they do not fit.
    pub(super) fn push(&mut self, packets: &[u8], limit: usize) -> Result<(), QueueError> {
        if packets.len() > limit.saturating_sub(self.packets.len()) {
            return Err(QueueError::Full);
        }
        self.packets.extend_from_slice(packets);
        Ok(())
    }

    /// Appends a control packet. There is always room: one ping waits at a time, and a session has one end.
    pub(super) fn push_control(&mut self, control: Control) {
        if control == Control::Ping && std::mem::replace(&mut self.ping, Ping::Waits) == Ping::Waits {
            return;
        }
        Framing::Payload.put_control(&mut self.packets, control);
    }

    /// The body of a poll's answer; nothing is left, and no memory is kept.
    pub(super) fn take(&mut self) -> Bytes {
        self.ping = Ping::None;
        let mut payload = std::mem::take(&mut self.packets).freeze();
        if !payload.is_empty() {
            payload.advance(1);
        }
        payload
    }

    /// Appends what waits as frames.
    pub(super) fn take_frames(&mut self, out: &mut BytesMut) {
        let payload = self.take();
        let Ok(text) = std::str::from_utf8(&payload) else {
            debug_assert!(false, "what the encoder writes is UTF-8");
            return;
        };
        if text.is_empty() {
            return;
        }
        for packet in text.split('\u{1e}') {
            match Packet::from_text(packet) {
                Ok(Packet::Binary(bytes)) => put_frame(out, OpCode::Binary, &bytes),
                _ => put_frame(out, OpCode::Text, packet.as_bytes()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_over_the_limit_are_refused_whole() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.push(b"\x1e4abc", 8), Ok(()));
        assert_eq!(outbox.push(b"\x1e4de", 8), Err(QueueError::Full));
        assert_eq!(outbox.push(b"\x1e4d", 8), Ok(()));
        assert_eq!(outbox.take(), "4abc\u{1e}4d");
        assert!(outbox.is_empty());
        assert_eq!(outbox.take(), "");
    }

    #[test]
    fn frames_have_the_packets_of_the_payload() {
        let (mut outbox, mut encoded, mut expected) = (Outbox::default(), BytesMut::new(), BytesMut::new());
        for (framing, out) in [(Framing::Payload, &mut encoded), (Framing::Frames, &mut expected)] {
            framing.put_text(out, ["hello"]);
            framing.put_binary(out, &[0, 255, 0x1E]);
            framing.put_text(out, []);
            framing.put_control(out, Control::Ping);
        }
        outbox.push(&encoded, 100).expect("room");
        let mut frames = BytesMut::new();
        outbox.take_frames(&mut frames);
        assert_eq!(frames, expected);
        outbox.take_frames(&mut frames);
        assert_eq!(frames, expected);
    }
}
