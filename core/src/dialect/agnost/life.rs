//! The heartbeat of Agnost's connections, and how the server ends a connection.

use bytes::BytesMut;

use super::framing;
use crate::{
    dialect::{Beat, Closing, Format, Heartbeat, Life, Rhythm, native},
    disconnect::Disconnect,
    engineio::{self, Framing},
    socketio::{self, MAIN_NAMESPACE},
    ws::{OpCode, put_frame},
};

/// The original's ping interval in milliseconds, and the intervals of silence after which a connection ends.
const PING_INTERVAL_MS: u64 = 10_000;
const SILENT_INTERVALS: u64 = 4;

/// The heartbeat: a ping packet at every interval. A client without pings closes the connection, whatever
/// else arrives. The interval is the original's, or the configured one if that is shorter.
pub(in crate::dialect) fn heartbeat(ping_interval_ms: u64) -> Heartbeat {
    let interval_ms = ping_interval_ms.min(PING_INTERVAL_MS);
    Heartbeat {
        interval_ms,
        timeout_ms: interval_ms * SILENT_INTERVALS,
        beat: Beat::TextFrame("2"),
        life: Life::AnyInput,
        rhythm: Rhythm::Regular,
    }
}

/// The heartbeat and the sizes that the open packet announces.
pub(super) fn engine_config(heartbeat: Heartbeat, frame_bytes: usize) -> engineio::Config {
    let ms = |ms: u64| u32::try_from(ms).unwrap_or(u32::MAX);
    engineio::Config {
        ping_interval_ms: ms(heartbeat.interval_ms),
        ping_timeout_ms: ms(heartbeat.timeout_ms - heartbeat.interval_ms),
        limits: engineio::Limits { payload_bytes: frame_bytes, ..engineio::Limits::default() },
        ..engineio::Config::default()
    }
}

/// The reason of a close. The protocol has no reasons, so the log uses the native dialect's.
pub(in crate::dialect) fn closing(why: Disconnect) -> Closing {
    native::closing(why)
}

/// Appends the last bytes that a client receives: DISCONNECT if the client is not to return, and over a
/// WebSocket a close frame without a code. A stock client reconnects after a close frame, but not after
/// DISCONNECT. A client that polls is told of the end by [`Polled::close`](super::Polled::close).
pub(in crate::dialect) fn put_disconnect(format: Format, out: &mut BytesMut, why: Disconnect) {
    let framing = framing(format);
    if matches!(why, Disconnect::ByServer { reconnect: false } | Disconnect::AppRemoved) {
        socketio::put_disconnect(out, framing, MAIN_NAMESPACE);
    }
    if framing == Framing::Frames {
        put_frame(out, OpCode::Close, &[]);
    }
}
