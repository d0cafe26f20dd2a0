//! Access to the dashboard: a user who knows the password is signed in for half a day. The cookie of a
//! sign-in is hidden from scripts and is not sent by other sites.

use std::{
    hint::black_box,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::http::{HeaderMap, header::COOKIE};
use fanfare_core::secret::Secret;

use crate::{config::Password, sys::secret};

const NAME: &str = "fanfare_dashboard";

/// The lifetime of a sign-in.
const LIFETIME: Duration = Duration::from_secs(12 * 3600);

/// The most sign-ins at a time. A further sign-in ends the oldest one.
const SIGN_INS: usize = 64;

/// The sign-in attempts that are allowed at once, and the time after which a further attempt is allowed.
const ATTEMPTS: u32 = 10;
const ATTEMPT_PAUSE: Duration = Duration::from_secs(6);

/// Why a sign-in was refused.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum Refused {
    Wrong,
    TooOften,
}

/// The password, and the users who have signed in.
pub(super) struct Accounts {
    password: Option<Password>,
    state: Mutex<State>,
}

struct State {
    /// The sign-ins, the oldest first.
    sign_ins: Vec<(Secret, Instant)>,
    attempts: u32,
    counted: Instant,
}

impl Accounts {
    pub(super) fn new(password: Option<Password>) -> Self {
        let state = State { sign_ins: Vec::new(), attempts: ATTEMPTS, counted: Instant::now() };
        Self { password, state: Mutex::new(state) }
    }

    pub(super) fn wants_password(&self) -> bool {
        self.password.is_some()
    }

    /// Whether a request has the cookie of a sign-in.
    pub(super) fn is_signed_in(&self, headers: &HeaderMap) -> bool {
        if self.password.is_none() {
            return true;
        }
        let Some(token) = token(headers) else { return false };
        let mut state = self.state();
        state.sign_ins.retain(|(_, since)| since.elapsed() < LIFETIME);
        state.sign_ins.iter().any(|(known, _)| *known == token)
    }

    /// Checks a password. Returns the cookie of the sign-in.
    pub(super) fn sign_in(&self, password: &[u8], headers: &HeaderMap) -> Result<String, Refused> {
        let mut state = self.state();
        if !state.take_attempt() {
            return Err(Refused::TooOften);
        }
        let known = self.password.as_ref().ok_or(Refused::Wrong)?;
        if !same(known.text().as_bytes(), password) {
            return Err(Refused::Wrong);
        }
        let token = secret();
        if state.sign_ins.len() == SIGN_INS {
            state.sign_ins.remove(0);
        }
        let text = cookie(&String::from_utf8_lossy(&token.text()), LIFETIME.as_secs(), headers);
        state.sign_ins.push((token, Instant::now()));
        Ok(text)
    }

    /// Ends a sign-in. Returns the cookie that replaces the sign-in's cookie.
    pub(super) fn sign_out(&self, headers: &HeaderMap) -> String {
        if let Some(token) = token(headers) {
            self.state().sign_ins.retain(|(known, _)| *known != token);
        }
        cookie("", 0, headers)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes one attempt from the allowance. Returns whether the attempt is allowed.
    fn take_attempt(&mut self) -> bool {
        let earned = self.counted.elapsed().as_secs() / ATTEMPT_PAUSE.as_secs();
        if earned > 0 {
            self.attempts =
                u32::try_from(earned).unwrap_or(ATTEMPTS).saturating_add(self.attempts).min(ATTEMPTS);
            self.counted = Instant::now();
        }
        let is_left = self.attempts > 0;
        self.attempts -= u32::from(is_left);
        is_left
    }
}

/// The token in a request's cookies.
fn token(headers: &HeaderMap) -> Option<Secret> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
    Secret::parse(pairs.find(|(name, _)| *name == NAME)?.1)
}

fn cookie(token: &str, seconds: u64, headers: &HeaderMap) -> String {
    let forwarded = headers.get("x-forwarded-proto").is_some_and(|scheme| scheme.as_bytes() == b"https");
    let secure = if forwarded { "; Secure" } else { "" };
    format!("{NAME}={token}; Path=/dashboard; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}")
}

/// Compares two texts in a time that depends on their lengths alone.
fn same(known: &[u8], given: &[u8]) -> bool {
    let differing = known.iter().zip(given).fold(0, |differing, (a, b)| black_box(differing | (a ^ b)));
    known.len() == given.len() && differing == 0
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn accounts() -> Accounts {
        Accounts::new(Some(Password::new("a password of tests").expect("it is long enough")))
    }

    fn with_cookie(cookie: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let pair = cookie.split(';').next().unwrap_or_default();
        headers.insert(COOKIE, HeaderValue::from_str(&format!("a=b; {pair}")).expect("a value"));
        headers
    }

    #[test]
    fn a_password_opens_until_it_is_signed_out() {
        let accounts = accounts();
        let nobody = HeaderMap::new();
        assert!(!accounts.is_signed_in(&nobody));
        assert_eq!(accounts.sign_in(b"a password of test", &nobody), Err(Refused::Wrong));
        let cookie = accounts.sign_in(b"a password of tests", &nobody).expect("it is right");
        assert!(cookie.contains("; HttpOnly; SameSite=Strict; ") && !cookie.contains("Secure"), "{cookie}");
        let headers = with_cookie(&cookie);
        assert!(accounts.is_signed_in(&headers));
        accounts.sign_out(&headers);
        assert!(!accounts.is_signed_in(&headers));
    }

    #[test]
    fn guessing_is_slow_and_sign_ins_are_few() {
        let accounts = accounts();
        let nobody = HeaderMap::new();
        for _ in 0..ATTEMPTS {
            assert_eq!(accounts.sign_in(b"", &nobody), Err(Refused::Wrong));
        }
        assert_eq!(accounts.sign_in(b"a password of tests", &nobody), Err(Refused::TooOften));
        for _ in 0..2 * SIGN_INS {
            accounts.state().attempts = 1;
            accounts.sign_in(b"a password of tests", &nobody).expect("it is right");
        }
        assert_eq!(accounts.state().sign_ins.len(), SIGN_INS);
    }
}
