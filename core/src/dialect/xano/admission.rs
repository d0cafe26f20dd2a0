//! Admission: the path names the app, and the WebSocket subprotocol is the session token.

use std::sync::Arc;

use bytes::BytesMut;

use super::life::put_final_refusal;
use crate::{
    app::{App, Apps},
    http::percent_decode,
    token::{Claims, TokenError},
};

/// The beginning of the path of Xano's clients. The rest of the path is the canonical.
const PATH: &str = "/rt/";

/// A session that may begin.
#[derive(Debug)]
pub struct Admission {
    /// The session's app.
    pub app: Arc<App>,
    /// The claims of the session token, if the token is valid.
    pub claims: Option<Claims>,
}

/// The reason why a client can never have a session. The refusal is sent on a WebSocket, because a client
/// whose handshake fails retries for ever.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Stranger(&'static str);

impl Stranger {
    /// The sentence that the refused client receives.
    pub fn sentence(self) -> &'static str {
        self.0
    }
}

/// The percent-encoded canonical in a path; `None` if the path is not one of Xano's clients.
pub fn canonical_at(path: &str) -> Option<&str> {
    path.strip_prefix(PATH)
}

/// Admits a client that names `canonical` and offers `token`, from a page of `origin` if the origin is known.
/// A token that `verify` refuses counts as no token.
///
/// # Errors
/// If the app does not admit this client.
pub fn admit(
    apps: &Apps,
    canonical: &str,
    (token, origin): (Option<&str>, Option<&str>),
    verify: impl FnOnce(&App, &str) -> Result<Claims, TokenError>,
) -> Result<Admission, Stranger> {
    let unknown = Stranger("Unknown connection hash");
    let canonical = percent_decode(canonical).map_err(|_| unknown)?;
    let app = apps.by_canonical(&canonical).ok_or(unknown)?;
    if !app.xano.as_ref().is_some_and(|options| options.enabled) {
        return Err(Stranger("Realtime is disabled"));
    }
    if !app.origin_allowed(origin) {
        return Err(Stranger("This origin may not connect"));
    }
    // Claims of channels are ignored: Xano's clients join their channels themselves after each connect.
    let claims = token.and_then(|token| verify(app, token).ok());
    let claims = claims.map(|claims| Claims { channels: Vec::new(), ..claims });
    Ok(Admission { app: app.clone(), claims })
}

/// Appends the last frames of a client that no app admits.
pub fn put_stranger(out: &mut BytesMut, stranger: Stranger) {
    put_final_refusal(out, stranger.sentence());
}
