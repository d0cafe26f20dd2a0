//! What sessions of a dialect may do, where the dialects differ.

use super::{Dialect, Format, native};
use crate::app::App;

/// Whether a session of this format can be resumed on another connection. Only some formats' clients can ask
/// for that.
pub fn is_resumable(format: Format) -> bool {
    format.dialect() == Dialect::Native
}

/// Whether a session of this format may read a channel only while it is a member.
pub fn reads_as_member(format: Format) -> bool {
    format.dialect() == Dialect::Xano
}

/// Whether triggers run on a join of a session of this format before the channel's rules are checked.
pub fn judges_joins_first(format: Format) -> bool {
    format.dialect() == Dialect::Xano
}

/// Whether a session of this format is told that the receiver of a message to one session is no member.
pub fn reports_absence(format: Format) -> bool {
    format.dialect() == Dialect::Xano
}

/// Whether sessions of this format may use a channel of this name, by the app's settings for the dialect.
pub fn knows_channel(format: Format, app: &App, name: &str) -> bool {
    format.dialect() != Dialect::Xano || app.xano.as_ref().is_some_and(|own| own.channel(name).is_some())
}

/// Whether an event's name belongs to the server in some dialect, so that no session may publish it.
pub fn is_reserved_event(event: &str) -> bool {
    native::is_reserved_event(event)
}
