//! The heartbeat of Xano's connections, and how the server ends a connection.

use bytes::BytesMut;

use super::{encode::put_sentence, errors::sentence};
use crate::{
    dialect::{Closing, Heartbeat, native},
    disconnect::Disconnect,
    error::ReplyError,
    ws::{self, OpCode, put_frame},
};

/// The close code after which a stock client reconnects. A stock client also reconnects after 1006 and 1011
/// to 1014, and after no other code.
const RECONNECT: u16 = 4000;
const RESTART: u16 = 1012;
const TRY_AGAIN_LATER: u16 = 1013;

/// The close code after which a stock client stays away.
const REFUSED: u16 = 4401;

/// The heartbeat: WebSocket ping frames, because the protocol has no heartbeat of its own.
pub(in crate::dialect) fn heartbeat(ping_interval_ms: u64) -> Heartbeat {
    native::heartbeat(ping_interval_ms)
}

/// The close code and the reason. The code decides whether a stock client reconnects; the reason is for a
/// person.
pub(in crate::dialect) fn closing(why: Disconnect) -> Closing {
    let code = match why {
        Disconnect::Restart => RESTART,
        Disconnect::SlowConsumer => TRY_AGAIN_LATER,
        Disconnect::PingTimeout
        | Disconnect::MessageTimeout
        | Disconnect::Resumed
        | Disconnect::ByServer { reconnect: true } => RECONNECT,
        Disconnect::ByServer { reconnect: false } | Disconnect::BadTokens | Disconnect::AppRemoved => REFUSED,
        Disconnect::Protocol(_) | Disconnect::BrokenDialect | Disconnect::PeerGone => {
            native::closing(why).code
        }
    };
    Closing { code, ..native::closing(why) }
}

/// Appends the last frame that a connection receives.
pub(in crate::dialect) fn put_disconnect(out: &mut BytesMut, why: Disconnect) {
    let Closing { code, reason } = closing(why);
    ws::put_close(out, code, reason, None);
}

/// Appends a temporary refusal of a session on an open WebSocket, after which the client retries.
pub(in crate::dialect) fn put_refusal(out: &mut BytesMut, error: ReplyError) {
    put_farewell(out, sentence(error), TRY_AGAIN_LATER);
}

/// Appends an `error` message, which reaches every listener of the client, and a close frame. A stock client
/// does not reconnect after this close code.
pub(super) fn put_final_refusal(out: &mut BytesMut, sentence: &str) {
    put_farewell(out, sentence, REFUSED);
}

fn put_farewell(out: &mut BytesMut, sentence: &str, code: u16) {
    let mut text = BytesMut::from(&b"{\"action\":\"error\",\"client\":null,\"options\":{},\"payload\":"[..]);
    put_sentence(&mut text, sentence);
    text.extend_from_slice(b"}");
    put_frame(out, OpCode::Text, &text);
    ws::put_close(out, code, "", None);
}
