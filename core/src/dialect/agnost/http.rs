//! The HTTP request for a channel's members, as clients of Agnost and Altogic send it. Every answer is JSON,
//! because these clients parse the body before they look at the status.

use std::{borrow::Cow, sync::Arc};

use bytes::BytesMut;

use super::back_end::put_member_list;
use crate::{
    app::{App, Apps, Environment, KeyRefusal, Visitor},
    error::ReplyError,
    http::Query,
    json::{Document, Raw, Scanner},
    publication::IdentityCard,
};

/// The end of Agnost's path. The environment's id stands before it.
const AGNOST: &str = "/agnost/realtime/get-members";

/// The end of Altogic's path. If `/e:` and the environment's id stand before it, they name the environment;
/// otherwise the first label of the host is the subdomain.
const ALTOGIC: &str = "/_api/rest/v1/realtime/get-members";

/// The head of a request for a channel's members.
#[derive(Copy, Clone, Debug)]
pub struct MembersHead<'a> {
    /// The environment, if the path or the host names one.
    environment: Option<Environment<'a>>,
    /// The key that the client sent.
    key: Option<&'a str>,
    /// The media type of the body.
    media: Option<&'a str>,
}

impl<'a> MembersHead<'a> {
    /// Whether this is the path of a request for members.
    pub fn is_at(path: &str) -> bool {
        path.ends_with(AGNOST) || path.ends_with(ALTOGIC)
    }

    /// A request for members to this path of this host.
    pub fn new(path: &'a str, host: Option<&'a str>) -> Self {
        let environment = match (path.strip_suffix(AGNOST), path.strip_suffix(ALTOGIC)) {
            (Some(prefix), _) => prefix.strip_prefix('/').map(Environment::Id),
            (None, Some("")) => host.and_then(|host| host.split('.').next()).map(Environment::Subdomain),
            (None, Some(prefix)) => prefix.strip_prefix("/e:").map(Environment::Id),
            (None, None) => None,
        };
        Self { environment, key: None, media: None }
    }

    /// The request with the client's key and the body's media type.
    pub fn with(self, key: Option<&'a str>, media: Option<&'a str>) -> Self {
        Self { key, media, ..self }
    }

    /// The app whose members the client may read.
    ///
    /// # Errors
    /// The first check that fails, in the original's order.
    pub fn admit<'n>(&self, apps: &'n Apps, visitor: &Visitor<'_>) -> Result<&'n Arc<App>, HttpProblem> {
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
        app.admit_key(key, visitor).map_err(refused_key)?;
        if !app.origin_allowed(visitor.origin) {
            let text = "The origin of the request may not use this environment.";
            return Err(HttpProblem::error(401, "domain_not_authorized", text));
        }
        if !options.enabled {
            return Err(HttpProblem::error(400, "realtime_not_enabled", "Realtime is switched off."));
        }
        Ok(app)
    }

    /// The channel that the body names.
    ///
    /// # Errors
    /// If the body is not JSON, or names no channel.
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

/// The channel in a JSON body; `None` if the text is not a JSON object.
fn json_channel(text: &str) -> Option<Option<Cow<'_, str>>> {
    let mut scanner = Scanner::new();
    match scanner.scan(text).ok()? {
        Document::Object(object) => Some(object.member("channel").and_then(name)),
        Document::Array(_) => Some(None),
        _ => None,
    }
}

/// A channel's name. A number counts as its digits.
fn name(value: Raw<'_>) -> Option<Cow<'_, str>> {
    if value.is_number() { Some(Cow::Borrowed(value.as_str())) } else { value.as_string() }
}

fn form_channel(text: &str) -> Option<Cow<'_, str>> {
    Query::new(text).filter_map(Result::ok).find(|(name, _)| name == "channel").map(|(_, value)| value)
}

/// The reason why a request for members is refused.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct HttpProblem {
    /// The HTTP status.
    pub status: u16,
    /// The error's code, which clients read.
    pub code: &'static str,
    message: &'static str,
    shape: Shape,
}

/// The JSON form of a refusal.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum Shape {
    /// A list of errors.
    Errors,
    /// The error of one field of the body.
    Validation,
}

impl HttpProblem {
    /// The request's method is not POST.
    pub const METHOD: Self = Self::error(405, "method_not_allowed", "Members are asked for by POST.");

    const fn error(status: u16, code: &'static str, message: &'static str) -> Self {
        Self { status, code, message, shape: Shape::Errors }
    }

    /// Whether the request's key is none of the app's.
    pub fn is_wrong_key(&self) -> bool {
        self.code == "invalid_api_key"
    }

    /// The refusal of a list of members that cannot be given as a whole.
    pub fn of(error: ReplyError) -> Self {
        let message = match error {
            ReplyError::TooManyMembers => "The list of members is longer than this app answers at once.",
            ReplyError::InvalidChannel => "The channel's name is longer than this app allows.",
            _ => "The members could not be listed; try again.",
        };
        Self::error(400, "get_channel_members_error", message)
    }

    /// The body of the refusal.
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

/// Appends a list of members as the body of an answer.
pub fn put_members(out: &mut BytesMut, members: &[IdentityCard]) {
    put_member_list(out, members);
}

/// The answer to a request whose key does not open the app.
fn refused_key(refusal: KeyRefusal) -> HttpProblem {
    let (status, code, text) = match refusal {
        KeyRefusal::Unknown => (401, "invalid_api_key", "The API key is none of this app's."),
        KeyRefusal::Expired => (403, "expired_api_key", "The API key has expired."),
        KeyRefusal::NoOrigin => (401, "missing_request_origin", "The API key is bound to domains."),
        KeyRefusal::Origin => (401, "domain_not_authorized", "The API key is bound to other domains."),
        KeyRefusal::Address => (401, "ip_not_authorized", "The API key is bound to other addresses."),
    };
    HttpProblem::error(status, code, text)
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
        let visitor = Visitor::default();
        let mut head = MembersHead { key: Some(KEY), ..MembersHead::new(path, host) };
        change(&mut head);
        head.admit(&apps(), &visitor)
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
