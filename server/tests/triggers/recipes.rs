//! The recipes of docs/TRIGGERS.md run as the page has them.

use std::{fs, time::Instant};

use fanfare_server::{Server, args::Args, config::Config};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::peer::{Client, chat, configuration};

const PAGE: &str = include_str!("../../../docs/TRIGGERS.md");

/// The first block of code in a language, and the text before it.
fn block<'a>(text: &'a str, language: &str) -> (&'a str, &'a str) {
    let (before, rest) = text.split_once(&format!("```{language}\n")).expect("a block of this language");
    (before, rest.split_once("\n```").expect("the block ends").0)
}

/// A server with the trigger of a recipe, and the folder of its files.
fn serve(recipe: &str) -> (Server, TempDir) {
    let (_, text) = PAGE.split_once(&format!("\n### Recipe: {recipe}\n")).expect("the page has the recipe");
    let folder = tempfile::tempdir().expect("a folder");
    let (_, settings) = block(text, "toml");
    let (before, script) = block(text, "js");
    let name = before.rsplit('`').nth(1).expect("the name of the file stands before the script");
    fs::write(folder.path().join(name), script).expect("it is written");
    let file = folder.path().join("fanfare.toml");
    fs::write(&file, configuration("") + &settings.replace("apps.chat", "apps.default"))
        .expect("it is written");
    let args = Args { config: Some(file), ..Args::default() };
    let config = Config::load(&args, std::iter::empty::<(&str, &str)>()).expect("it is a configuration");
    (Server::start(config).expect("it starts"), folder)
}

fn client(server: &Server) -> Client {
    Client::connect(server.addresses()[0].address, "")
}

#[test]
fn every_recipe_is_run() {
    let recipes: Vec<_> = PAGE.lines().filter_map(|line| line.strip_prefix("### Recipe: ")).collect();
    let run = ["filter", "enrich", "rate limit", "answer with the last messages"];
    let elsewhere = "persist by http";
    let here: Vec<_> = recipes.into_iter().filter(|recipe| *recipe != elsewhere).collect();
    assert_eq!(here, run);
}

#[test]
fn the_filter_masks_words_and_refuses_links_of_guests() {
    let (server, _folder) = serve("filter");
    let mut ada = client(&server);
    ada.join("room:1");
    ada.send(&chat("room:1", json!({"text": "Heck, a darned darn", "more": 1})));
    assert_eq!(ada.message(), json!({"text": "****, a darned ****", "more": 1}));
    for (message, why) in [
        (json!({"text": "see http://example.com"}), "Sign in to send links."),
        (json!({"text": 1}), "A message has a text."),
        (json!(null), "A message has a text."),
    ] {
        let refused = ada.ask(chat("room:1", message));
        assert_eq!(refused["error"], json!({"code": "refused", "message": why}));
    }
    server.shut_down().expect("it ends");
}

#[test]
fn enriched_messages_say_who_sent_them_whatever_the_client_writes() {
    let (server, _folder) = serve("enrich");
    let mut ada = client(&server);
    ada.join("room:1");
    let profile = json!({"type": "update", "profile": {"name": "Ada"}});
    assert!(ada.ask(profile)["ok"].is_object());
    ada.send(&chat("room:1", json!({"text": "hi", "from": "bob", "at": 0})));
    let mut message = ada.message();
    let at = message["at"].take();
    assert!(at.as_str().is_some_and(|at| at.ends_with('Z') && at.len() == 24), "{at}");
    assert_eq!(message, json!({"text": "hi", "from": null, "name": "Ada", "at": null}));
    for message in [json!("text"), json!([1]), json!(null)] {
        assert_eq!(ada.ask(chat("room:1", message))["error"]["code"], "refused");
    }
    server.shut_down().expect("it ends");
}

#[test]
fn a_client_that_sends_too_fast_is_refused_and_others_are_not() {
    let (server, _folder) = serve("rate limit");
    let (mut ada, mut bob) = (client(&server), client(&server));
    let began = Instant::now();
    let answers: Vec<Value> = (0..40).map(|n| ada.ask(chat("room:1", json!(n)))).collect();
    let seconds = began.elapsed().as_secs() as usize + 1;
    let admitted = answers.iter().filter(|answer| answer["ok"].is_object()).count();
    assert!((5..=5 + seconds).contains(&admitted), "{admitted} in {seconds} s");
    let refused = answers.iter().filter(|answer| answer["error"]["message"] == "You send too fast.").count();
    assert_eq!(admitted + refused, 40);
    assert!(bob.ask(chat("room:1", json!(1)))["ok"].is_object(), "a bucket is a client's own");
    assert!(ada.ask(chat("room:2", json!(1)))["ok"].is_object(), "and a channel's own");
    server.shut_down().expect("it ends");
}

#[test]
fn who_joins_receives_the_last_messages() {
    let (server, _folder) = serve("answer with the last messages");
    let mut ada = client(&server);
    for n in 0..12 {
        assert!(ada.ask(chat("room:1", json!({ "n": n })))["ok"].is_object());
    }
    ada.send(&json!({"type": "join", "channel": "room:1"}));
    let last: Vec<Value> = (2..12).map(|n| json!({"from": null, "payload": {"n": n}})).collect();
    assert_eq!(ada.message(), json!(last));
    assert!(ada.ask(chat("room:1", json!("x".repeat(15_000))))["ok"].is_object());
    let mut bob = client(&server);
    bob.send(&json!({"type": "join", "channel": "room:1"}));
    assert_eq!(bob.message(), json!([]), "what does not fit is not kept");
    server.shut_down().expect("it ends");
}
