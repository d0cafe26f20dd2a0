//! Answers in the original's form: JSON with CORS headers, and error pages in the media type that the peer
//! accepts.

use bytes::BytesMut;
use fanfare_core::{app::ChannelstreamOptions, dialect::channelstream::Answer, http::Head};

use crate::http::{cors::CorsPolicy, reply::Reply};

/// A page that answers a request which is not answered by its call.
#[derive(Clone, Eq, PartialEq, Debug)]
pub(crate) enum Page {
    /// The path does not exist, or does not have the method.
    NotFound,
    /// The request needs a signature, or comes from a forbidden address.
    Forbidden,
    /// The signature is not valid.
    BadSignature,
    /// The connection does not exist.
    Unauthorized,
    /// An administrator has to sign in first.
    SignIn,
}

const METHODS: &str = "GET, POST, OPTIONS, PUT, DELETE, PATCH";
const HEADERS: &str = "Content-Type, Depth, User-Agent, X-File-Size, X-Requested-With, If-Modified-Since, \
                       X-File-Name, Cache-Control, Pragma, Origin, Connection, Referer, Cookie";

const BAD_SIGNATURE: &str = "{\n    \"request\": \"Bad Signature\"\n}";
const UNVERIFIED: &str = concat!(
    "This server could not verify that you are authorized to access the document you requested.  Either you ",
    "supplied the wrong credentials (e.g., bad password), or your browser does not understand how to supply ",
    "the credentials required."
);
type Fields = [(&'static str, &'static str)];

const SHARED: &Fields = &[
    ("Access-Control-Allow-Origin", "*"),
    ("XDomainRequestAllowed", "1"),
    ("Access-Control-Allow-Methods", METHODS),
    ("Access-Control-Allow-Headers", HEADERS),
    ("Access-Control-Max-Age", "86400"),
    ("Content-Type", "application/json"),
];
const SHARED_SCRIPT: &Fields = &[
    ("Access-Control-Allow-Origin", "*"),
    ("XDomainRequestAllowed", "1"),
    ("Access-Control-Allow-Methods", METHODS),
    ("Access-Control-Allow-Headers", HEADERS),
    ("Access-Control-Max-Age", "86400"),
    ("Content-Type", "application/javascript"),
];

/// The headers of the answer to a long poll.
pub(crate) fn listen_headers(
    options: &ChannelstreamOptions,
    origin: Option<&str>,
    is_script: bool,
) -> &'static Fields {
    let all = if is_script { SHARED_SCRIPT } else { SHARED };
    if options.allows_origin(origin) { all } else { &all[1..] }
}

/// Appends an answer that pages of other origins may read as the app's options allow.
fn put_shared(
    out: &mut BytesMut,
    reply: &Reply,
    options: &ChannelstreamOptions,
    origin: Option<&str>,
    content: (&str, &[u8]),
) -> u16 {
    let mut headers = Vec::with_capacity(6);
    if options.allows_origin(origin) {
        headers.push(("Access-Control-Allow-Origin", "*"));
    }
    headers.extend([
        ("XDomainRequestAllowed", "1"),
        ("Access-Control-Allow-Methods", METHODS),
        ("Access-Control-Allow-Headers", HEADERS),
        ("Access-Control-Max-Age", "86400"),
        ("Content-Type", content.0),
    ]);
    plain(reply).put(out, 200, &headers, content.1);
    200
}

/// The reply without the CORS headers of the server's own API.
pub(crate) fn plain(reply: &Reply) -> Reply {
    let mut reply = reply.clone();
    reply.cors = CorsPolicy::NoOrigin;
    reply
}

/// Appends the answer to a call. Returns the status.
pub(crate) fn put_answer(
    out: &mut BytesMut,
    reply: &Reply,
    options: &ChannelstreamOptions,
    origin: Option<&str>,
    answer: &Answer,
) -> u16 {
    let text = answer.text();
    if answer.status == 200 {
        return put_shared(out, reply, options, origin, ("application/json", text.as_bytes()));
    }
    plain(reply).put(out, answer.status, &[("Content-Type", "application/json")], text.as_bytes());
    answer.status
}

/// Appends the answer to a preflight.
pub(crate) fn put_empty(
    out: &mut BytesMut,
    reply: &Reply,
    options: &ChannelstreamOptions,
    origin: Option<&str>,
) -> u16 {
    put_shared(out, reply, options, origin, ("text/plain; charset=UTF-8", b""))
}

/// Appends an HTML page.
pub(crate) fn put_html(
    out: &mut BytesMut,
    reply: &Reply,
    options: &ChannelstreamOptions,
    origin: Option<&str>,
    html: &str,
) -> u16 {
    put_shared(out, reply, options, origin, ("text/html; charset=UTF-8", html.as_bytes()))
}

/// Appends an error page in the media type that the peer accepts. `detail` is for a page about an unknown
/// path.
pub(crate) fn put_page(out: &mut BytesMut, reply: &Reply, head: &Head<'_>, page: &Page, detail: &str) -> u16 {
    let (status, explanation, detail) = match page {
        Page::BadSignature => {
            plain(reply).put(out, 401, &[("Content-Type", "application/json")], BAD_SIGNATURE.as_bytes());
            return 401;
        }
        Page::NotFound => (404, "The resource could not be found.", detail),
        Page::Unauthorized => (401, UNVERIFIED, ""),
        Page::Forbidden => (403, "Access was denied to this resource.", ""),
        Page::SignIn => return redirect(out, reply, head, detail, None),
    };
    let (content_type, body) = Form::of(head).page(status, explanation, Some(detail));
    plain(reply).put(out, status, &[("Content-Type", content_type)], body.as_bytes());
    status
}

/// Appends a redirection to a location, and the cookie if there is one.
pub(crate) fn redirect(
    out: &mut BytesMut,
    reply: &Reply,
    head: &Head<'_>,
    location: &str,
    cookie: Option<&str>,
) -> u16 {
    let sentence = format!("The resource was found at {location}; you should be redirected automatically.");
    let (content_type, body) = Form::of(head).page(302, &sentence, None);
    let mut headers = vec![("Location", location), ("Content-Type", content_type)];
    headers.extend(cookie.map(|cookie| ("Set-Cookie", cookie)));
    plain(reply).put(out, 302, &headers, body.as_bytes());
    302
}

/// The media type of an error page.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum Form {
    Html,
    Json,
    Text,
}

impl Form {
    /// The media type that a peer accepts best; plain text for a peer that names none.
    fn of(head: &Head<'_>) -> Self {
        let Some(accept) = head.header_str("accept") else { return Self::Text };
        let (html, json) = (quality(accept, "text/html"), quality(accept, "application/json"));
        match html >= json {
            true if html > 0 => Self::Html,
            false => Self::Json,
            true => Self::Text,
        }
    }

    /// The content type and the text of an error page.
    fn page(self, status: u16, explanation: &str, detail: Option<&str>) -> (&'static str, String) {
        let title = match status {
            302 => "Found",
            401 => "Unauthorized",
            403 => "Forbidden",
            _ => "Not Found",
        };
        let more = |gap: &str| detail.map(|detail| format!("{gap}{detail}")).unwrap_or_default();
        match self {
            Self::Html => {
                let explanation = escape(explanation);
                let more = detail.map(|detail| format!("<br/><br/>\n{}", escape(detail))).unwrap_or_default();
                let html = format!(
                    "<html>\n <head>\n  <title>{status} {title}</title>\n </head>\n <body>\n  <h1>{status} \
                     {title}</h1>\n  {explanation}{more}\n\n\n </body>\n</html>"
                );
                ("text/html; charset=UTF-8", html)
            }
            Self::Json => {
                let message = json_string(&format!("{explanation}{}\n\n", more("\n\n\n")));
                let json = format!(
                    "{{\"message\": {message}, \"code\": \"{status} {title}\", \"title\": \"{title}\"}}"
                );
                ("application/json", json)
            }
            Self::Text => {
                let text = format!("{status} {title}\n\n{explanation}{}\n\n", more("\n\n\n"));
                ("text/plain; charset=UTF-8", text)
            }
        }
    }
}

fn json_string(text: &str) -> String {
    let mut out = BytesMut::new();
    fanfare_core::json::write_string(&mut out, text);
    String::from_utf8_lossy(&out).into_owned()
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#x27;"),
            letter => out.push(letter),
        }
    }
    out
}

/// The weight of a media type in `Accept`, in thousandths (RFC 9110, section 12.5.1). The most specific range
/// counts.
fn quality(accept: &str, media: &str) -> u32 {
    let family = media.split('/').next().unwrap_or_default();
    let mut best = (0, 0);
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let fit = match &*name {
            name if name == media => 3,
            name if name.strip_suffix("/*") == Some(family) => 2,
            "*/*" => 1,
            _ => continue,
        };
        let given = parts.find_map(|part| part.strip_prefix("q=")).map(|q| q.parse::<f32>().unwrap_or(0.0));
        let quality = (given.unwrap_or(1.0).clamp(0.0, 1.0) * 1000.0) as u32;
        if fit > best.0 {
            best = (fit, quality);
        }
    }
    best.1
}

/// The page with the sign-in form.
pub(crate) fn sign_in_page() -> String {
    page_of(
        "Sign in",
        "<form method=\"post\"><p><label>User <input name=\"username\" autocomplete=\"username\"></label></p>\
         <p><label>Password <input name=\"password\" type=\"password\"></label></p>\
         <p><button>Sign in</button></p></form>",
    )
}

/// The page with the overview of the server, as JSON.
pub(crate) fn overview_page(json: &str, prefix: &str) -> String {
    let body = format!(
        "<p><a href=\"{prefix}/admin\">Again</a> <a href=\"{prefix}/admin/admin.json\">JSON</a> \
         <a href=\"{prefix}/admin/sign_out\">Sign out</a></p><pre>{}</pre>",
        escape(json)
    );
    page_of("Overview", &body)
}

fn page_of(title: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title></head>\
         <body><h1>{title}</h1>{body}</body></html>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_have_the_form_that_is_wanted_most() {
        for (accept, html, json) in [
            ("*/*", 1000, 1000),
            ("text/*;q=0.5, application/json", 500, 1000),
            ("text/html;q=0.2, */*;q=0.8", 200, 800),
            ("image/png", 0, 0),
            ("text/html;q=x", 0, 0),
        ] {
            assert_eq!(
                (quality(accept, "text/html"), quality(accept, "application/json")),
                (html, json),
                "{accept}"
            );
        }
        let (_, html) = Form::Html.page(404, "Not here.", Some("/<a>"));
        assert!(
            html.contains("<h1>404 Not Found</h1>\n  Not here.<br/><br/>\n/&lt;a&gt;\n\n\n </body>"),
            "{html}"
        );
        let (_, text) = Form::Text.page(403, "No.", Some(""));
        assert_eq!(text, "403 Forbidden\n\nNo.\n\n\n\n\n");
        let (_, json) = Form::Json.page(302, "There.", None);
        assert_eq!(json, "{\"message\": \"There.\\n\\n\", \"code\": \"302 Found\", \"title\": \"Found\"}");
    }
}
