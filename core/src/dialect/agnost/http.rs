//! The members of a channel over HTTP, as clients of Agnost and Altogic ask for them. Whatever the answer, it
//! is JSON: the clients parse it before they look at the status.

use std::{borrow::Cow, sync::Arc};

use bytes::BytesMut;

use super::back_end::put_member_list;
use crate::{
    app::{App, Apps, Environment},
    error::ReplyError,
    http::Query,
    json::{Document, Raw, Scanner},
    publication::IdentityCard,
};

/// What Agnost's path ends with; the environment's id is before it.
const AGNOST: &str = "/agnost/realtime/get-members";

/// What Altogic's path ends with. Before it is `/e:` and the environment's id, or nothing: then the host's
/// first label is the subdomain.
const ALTOGIC: &str = "/_api/rest/v1/realtime/get-members";

/// A request for the members of a channel, as far as its head says.
#[derive(Copy, Clone, Debug)]
pub struct MembersHead<'a> {
    /// The environment, if the path or the host names one.
    environment: Option<Environment<'a>>,
    /// The app's key.
    key: Option<&'a str>,
    /// Where the page is from that asks.
    origin: Option<&'a str>,
    /// The type of the body.
    media: Option<&'a str>,
}

impl<'a> MembersHead<'a> {
    /// Whether a request to this path is one.
    pub fn is_at(path: &str) -> bool {
        path.ends_with(AGNOST) || path.ends_with(ALTOGIC)
    }

    /// A request to this path of this host.
    pub fn new(path: &'a str, host: Option<&'a str>) -> Self {
        let environment = match (path.strip_suffix(AGNOST), path.strip_suffix(ALTOGIC)) {
            (Some(prefix), _) => prefix.strip_prefix('/').map(Environment::Id),
            (None, Some("")) => host.and_then(|host| host.split('.').next()).map(Environment::Subdomain),
            (None, Some(prefix)) => prefix.strip_prefix("/e:").map(Environment::Id),
            (None, None) => None,
        };
        Self { environment, key: None, origin: None, media: None }
    }

    /// The same, with the app's key, where the page is from that asks, and the type of the body.
    pub fn with(self, key: Option<&'a str>, origin: Option<&'a str>, media: Option<&'a str>) -> Self {
        Self { key, origin, media, ..self }
    }

    /// The app whose members may be asked for.
    ///
    /// # Errors
    /// The first check that fails, in the original's order.
    pub fn admit<'n>(&self, apps: &'n Apps) -> Result<&'n Arc<App>, HttpProblem> {
        let app = self.environment.and_then(|environment| apps.by_environment(environment));
        let (app, options) = app
            .and_then(|app| Some((app, app.agnost.as_ref()?)))
            .ok_or(HttpProblem::error(404, "no_environment_found", "There is no such environment."))?;
        let media = self.media.map(|media| media.to_ascii_lowercase());
        if media.is_some_and(|media| !media.starts_with(JSON) && !media.starts_with(FORM)) {
            let text = "The body must be JSON or a form of the type application/x-www-form-urlencoded.";
            return Err(HttpProblem::error(415, "unsupported_media_type", text));
        }
        let key = self.key.filter(|key| !key.is_empty());
        let key = key.ok_or(HttpProblem::error(401, "missing_api_key", "The request has no API key."))?;
        if app.key_role(key).is_none() {
            return Err(HttpProblem::error(401, "invalid_api_key", "The API key is none of this app's."));
        }
        if !app.origin_allowed(self.origin) {
            let text = "The origin of the request may not use this environment.";
            return Err(HttpProblem::error(401, "domain_not_authorized", text));
        }
        if !options.enabled {
            return Err(HttpProblem::error(400, "realtime_not_enabled", "Realtime is switched off."));
        }
        Ok(app)
    }

    /// The channel that a body names.
    ///
    /// # Errors
    /// If it is no JSON, or names none.
    pub fn channel(&self, body: &'a [u8]) -> Result<Cow<'a, str>, HttpProblem> {
        let syntax = HttpProblem::error(400, "invalid_request_body_syntax", "The body is not well-formed.");
        let text = std::str::from_utf8(body).map_err(|_| syntax)?;
        let is_form = self.media.is_some_and(|media| media.to_ascii_lowercase().starts_with(FORM));
        let name = match is_form {
            true => form_channel(text),
            false if text.is_empty() => None,
            false => json_channel(text).ok_or(syntax)?,
        };
        let name = name.map(|name| Cow::<str>::Owned(name.trim().into())).filter(|name| !name.is_empty());
        name.ok_or(HttpProblem { shape: Shape::Validation, ..syntax })
    }
}

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

/// `None`: the text is no JSON object.
fn json_channel(text: &str) -> Option<Option<Cow<'_, str>>> {
    let mut scanner = Scanner::new();
    match scanner.scan(text).ok()? {
        Document::Object(object) => Some(object.member("channel").and_then(name)),
        Document::Array(_) => Some(None),
        _ => None,
    }
}

/// Numbers stand for their text.
fn name(value: Raw<'_>) -> Option<Cow<'_, str>> {
    if value.is_number() { Some(Cow::Borrowed(value.as_str())) } else { value.as_string() }
}

fn form_channel(text: &str) -> Option<Cow<'_, str>> {
    Query::new(text).filter_map(Result::ok).find(|(name, _)| name == "channel").map(|(_, value)| value)
}

/// Why a request is refused.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct HttpProblem {
    /// The status.
    pub status: u16,
    /// The code that clients read.
    pub code: &'static str,
    message: &'static str,
    shape: Shape,
}

/// How a refusal is written.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum Shape {
    /// A list of errors.
    Errors,
    /// That of a field of the body.
    Validation,
}

impl HttpProblem {
    /// The method is none of the resource's.
    pub const METHOD: Self = Self::error(405, "method_not_allowed", "Members are asked for by POST.");

    const fn error(status: u16, code: &'static str, message: &'static str) -> Self {
        Self { status, code, message, shape: Shape::Errors }
    }

    /// What a list that cannot be had whole is answered with.
    pub fn of(error: ReplyError) -> Self {
        let message = match error {
            ReplyError::TooManyMembers => "The list of members is longer than this app answers at once.",
            ReplyError::InvalidChannel => "The channel's name is longer than this app allows.",
            _ => "The members could not be listed; try again.",
        };
        Self::error(400, "get_channel_members_error", message)
    }

    /// The body of the answer.
    pub fn body(&self) -> String {
        let Self { code, message, shape, .. } = self;
        match shape {
            Shape::Errors => [
                r#"{"errors":[{"origin":"client_error","code":""#,
                code,
                r#"","message":""#,
                message,
                r#""}]}"#,
            ]
            .concat(),
            Shape::Validation => concat!(
                r#"{"error":"Invalid Input","details":"The request has input that is not valid.","#,
                r#""code":"validation_error","fields":[{"msg":"Channel name is required, cannot be left "#,
                r#"empty.","param":"channel","location":"body"}]}"#,
            )
            .into(),
        }
    }
}

/// Appends members as the body of an answer.
pub fn put_members(out: &mut BytesMut, members: &[IdentityCard]) {
    put_member_list(out, members);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::{AgnostOptions, AppKeys};

    const KEY: &str = "client-key-0123456789";

    fn apps() -> Apps {
        let keys = AppKeys::new(&[KEY], &[]).expect("a key");
        let options = AgnostOptions { subdomain: Some("acme".into()), ..AgnostOptions::new("env") };
        Apps::new(vec![App { agnost: Some(options), ..App::new("default", keys) }]).expect("one app")
    }

    fn code<'a>(path: &'a str, host: Option<&'a str>, change: impl Fn(&mut MembersHead<'a>)) -> &'static str {
        let mut head = MembersHead { key: Some(KEY), ..MembersHead::new(path, host) };
        change(&mut head);
        head.admit(&apps())
            .map_or_else(|problem| problem.code, |app| if *app.name == *"default" { "" } else { "?" })
    }

    #[test]
    fn both_paths_lead_to_the_app() {
        assert_eq!(code("/env/agnost/realtime/get-members", None, |_| {}), "");
        assert_eq!(code("/e:env/_api/rest/v1/realtime/get-members", None, |_| {}), "");
        assert_eq!(code("/_api/rest/v1/realtime/get-members", Some("acme.example.com"), |_| {}), "");
        for path in ["/x/agnost/realtime/get-members", "/e:x/_api/rest/v1/realtime/get-members"] {
            assert_eq!(code(path, None, |_| {}), "no_environment_found");
        }
        let path = "/_api/rest/v1/realtime/get-members";
        assert_eq!(code(path, Some("env.example.com"), |_| {}), "no_environment_found");
        assert!(!MembersHead::is_at("/v1/members"));
    }

    #[test]
    fn checks_come_in_order() {
        let path = "/env/agnost/realtime/get-members";
        assert_eq!(code(path, None, |head| head.key = None), "missing_api_key");
        assert_eq!(code(path, None, |head| head.key = Some("")), "missing_api_key");
        assert_eq!(code(path, None, |head| head.key = Some("x")), "invalid_api_key");
        let odd = |head: &mut MembersHead<'_>| (head.key, head.media) = (None, Some("text/plain"));
        assert_eq!(code(path, None, odd), "unsupported_media_type");
        assert_eq!(code(path, None, |head| head.media = Some("Application/JSON; charset=utf-8")), "");
    }

    #[test]
    fn a_body_names_its_channel() {
        let head = MembersHead::new("/env/agnost/realtime/get-members", None);
        let channel = |head: &MembersHead<'static>, body: &'static str| {
            head.channel(body.as_bytes()).map(Cow::into_owned).map_err(|problem| problem.body())
        };
        assert_eq!(channel(&head, r#"{"channel":" r\u006fom "}"#).as_deref(), Ok("room"));
        assert_eq!(channel(&head, r#"{"channel":5}"#).as_deref(), Ok("5"));
        for body in ["", "{}", r#"{"channel":"  "}"#, r#"{"channel":null}"#, "[]"] {
            let error = channel(&head, body).expect_err("no channel");
            assert!(error.contains("validation_error"), "{body}: {error}");
        }
        for body in ["{", "\"room\"", "{\"channel\":\"a\"}}", "7"] {
            let error = channel(&head, body).expect_err("no JSON");
            assert!(error.contains("invalid_request_body_syntax"), "{body}: {error}");
        }
        let form = MembersHead { media: Some("application/x-www-form-urlencoded"), ..head };
        assert_eq!(channel(&form, "a=b&channel=caf%C3%A9+x").as_deref(), Ok("café x"));
        assert!(channel(&form, "a=b").is_err());
    }

    #[test]
    fn problems_are_json() {
        let errors = [ReplyError::TooManyMembers, ReplyError::Overloaded, ReplyError::InvalidChannel];
        for problem in errors.map(HttpProblem::of) {
            let body: serde_json::Value = serde_json::from_str(&problem.body()).expect("it is JSON");
            assert_eq!(body["errors"][0]["code"], "get_channel_members_error");
        }
    }
}
