//! How a connection of this dialect stays alive, and how it ends.

use bytes::BytesMut;

use super::{answers::encode_error, errors::code};
use crate::{
    dialect::{Beat, Closing, Heartbeat, Life, Rhythm},
    disconnect::Disconnect,
    error::ReplyError,
    ws,
};

/// Close code of a session that is refused (RFC 6455, section 7.4.1: policy violation).
const REFUSED: u16 = 1008;

/// A ping frame after an interval of silence. Two silent intervals end the connection.
pub(in crate::dialect) fn heartbeat(ping_interval_ms: u64) -> Heartbeat {
    Heartbeat {
        interval_ms: ping_interval_ms,
        timeout_ms: ping_interval_ms.saturating_mul(2),
        beat: Beat::PingFrame,
        life: Life::AnyInput,
        rhythm: Rhythm::OnSilence,
    }
}

/// Close code (RFC 6455, section 7.4; from 4000 on the dialect's own) and reason.
pub(in crate::dialect) fn closing(why: Disconnect) -> Closing {
    let (code, reason) = match why {
        Disconnect::Protocol(error) => (error.close_code(), error.reason()),
        Disconnect::BrokenDialect => (1002, "not the protocol that is spoken here"),
        Disconnect::Restart => (1012, "the server is restarting"),
        Disconnect::SlowConsumer => (4000, "slow consumer"),
        Disconnect::PingTimeout => (4001, "ping timeout"),
        Disconnect::MessageTimeout => (4004, "message timeout"),
        Disconnect::BadTokens => (4005, "too many session tokens that do not verify"),
        Disconnect::Resumed => (4006, "resumed on another connection"),
        Disconnect::AppRemoved => (4007, "the app is no longer served"),
        Disconnect::PeerGone => (1000, ""),
        Disconnect::ByServer { reconnect: false } => (4002, "disconnected"),
        Disconnect::ByServer { reconnect: true } => (4003, "disconnected, please reconnect"),
    };
    Closing { code, reason }
}

/// Appends the close frame.
pub(in crate::dialect) fn put_disconnect(out: &mut BytesMut, why: Disconnect) {
    let Closing { code, reason } = closing(why);
    ws::put_close(out, code, reason, None);
}

/// Appends the error and a close frame.
pub(in crate::dialect) fn put_refusal(out: &mut BytesMut, error: ReplyError) {
    encode_error(out, None, error);
    ws::put_close(out, REFUSED, code(error), None);
}
