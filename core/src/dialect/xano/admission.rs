//! Who may come in: the path names the app, and the subprotocol is a token.

use std::sync::Arc;

use bytes::BytesMut;

use super::life::put_final_refusal;
use crate::{
    app::{App, Apps},
    http::percent_decode,
    token::{Claims, TokenError},
};

/// Where these clients connect: the rest of the path is the canonical.
const PATH: &str = "/rt/";

/// A session that may begin.
#[derive(Debug)]
pub struct Admission {
    /// Its app.
    pub app: Arc<App>,
    /// What its token says, if it has one that is valid.
    pub claims: Option<Claims>,
}

/// Why no session begins, and never will. Clients are told on a WebSocket, or they would try again for ever.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Stranger(&'static str);

impl Stranger {
    /// The sentence that clients are told.
    pub fn sentence(self) -> &'static str {
        self.0
    }
}

/// The canonical of a path, percent-encoded; `None` if the path is none of these clients'.
pub fn canonical_at(path: &str) -> Option<&str> {
    path.strip_prefix(PATH)
}

/// Whether a session may begin for a client that names `canonical` and offers `token`, from a page of
/// `origin` if it is known. A token that `verify` refuses counts as none.
///
/// # Errors
/// If the app does not want this client.
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
    // Clients join their channels themselves, each time they connect.
    let claims = token.and_then(|token| verify(app, token).ok());
    let claims = claims.map(|claims| Claims { channels: Vec::new(), ..claims });
    Ok(Admission { app: app.clone(), claims })
}

/// Appends what a client receives that no app wants.
pub fn put_stranger(out: &mut BytesMut, stranger: Stranger) {
    put_final_refusal(out, stranger.sentence());
}
