//! The printed form of a configuration.

use fanfare_core::app::KeyRole;
use fanfare_server::args::Secrets;
use fanfare_server::config::Config;

use crate::{CLIENT, RSA_PUBLIC, SECRET, SERVER, chat, load, refusal, session_key, toml};

#[test]
fn a_printed_configuration_keeps_auto_and_leaves_inherited_options_out() {
    let rule = "[[apps.chat.channels]]\nmatch = 'a*'\nhistory_messages = 7\n";
    let printed = toml(&chat(&format!("history_bytes = 5000\n{rule}"))).to_toml(Secrets::Shown);
    assert!(printed.contains("workers = \"auto\"\n"), "{printed}");
    let (_, channels) = printed.split_once("[[apps.chat.channels]]\n").expect("the rule is there");
    assert!(channels.starts_with("match = \"a*\"\nhistory_messages = 7\n"), "{channels}");
    assert_eq!(printed.matches("history_bytes = 5000").count(), 1, "{printed}");
    let again = toml(&printed);
    assert_eq!(again.to_toml(Secrets::Shown), printed);
    let options = again.apps.by_name("chat").expect("it is there").channel_options("abc");
    assert_eq!((options.history.messages, options.history.bytes), (7, 5000));
}

#[test]
fn a_printed_configuration_is_read_back_as_the_same() {
    let text = format!(
        "[server]\nlisten = ['127.0.0.1:1', '[::1]:0']\nadmin_listen = 'off'\nworkers = 3\n\
         pin = true\nspin_us = 9\n\
         [server.limits]\nframe_bytes = 2000000\nmailbox_depth = 100\n\
         [log]\nlevel = 'info,a=off'\nformat = 'json'\n\
         [apps.'a.b']\nserver_key_env = ['KEY']\norigins = []\n{}",
        session_key(&format!(
            "algorithm = 'HS256'\nkid = 'k'\nsecret = '{SECRET}\\\"'\n\
             [[apps.chat.session_keys]]\nalgorithm = 'RS256'\npublic_key = '''{RSA_PUBLIC}'''"
        ))
    );
    let environment = [("KEY", "a-server-key-in-a-variable")];
    let config = load("", &environment, &text).expect("valid");
    let printed = config.to_toml(Secrets::Shown);
    let again = load("", &environment, &printed).expect("what was printed is accepted");
    assert_eq!(again.to_toml(Secrets::Shown), printed);
    let seen = |config: &Config| {
        let shown = format!("{config:?}");
        let file = shown.find(", file: ").expect("the file is a field");
        String::from(&shown[..file])
    };
    assert_eq!(seen(&again), seen(&config));
    for (name, key, role) in [
        ("chat", CLIENT, KeyRole::Client),
        ("chat", SERVER, KeyRole::Server),
        ("a.b", "a-server-key-in-a-variable", KeyRole::Server),
    ] {
        assert_eq!(again.apps.by_name(name).and_then(|app| app.key_role(key)), Some(role));
    }
    assert!(!printed.contains("a-server-key-in-a-variable"), "a variable stays a reference");
}

/// A trigger that asks a back end.
fn asking(key: &str, value: &str) -> String {
    format!("[[apps.chat.triggers]]\nname = 't'\nchannel = 'c'\nurl = 'https://a'\n{key} = '{value}'\n")
}

#[test]
fn hidden_secrets_are_not_printed_and_not_accepted() {
    let text = session_key(&format!("algorithm = 'HS256'\nsecret = '{SECRET}'")) + &asking("secret", SECRET);
    let printed = toml(&text).to_toml(Secrets::Hidden);
    for secret in [CLIENT, SERVER, SECRET] {
        assert!(!printed.contains(secret), "{printed}");
    }
    assert!(printed.starts_with("# Keys and secrets are hidden"), "{printed}");
    assert_eq!(
        refusal(&printed),
        "`apps.chat.client_keys` is the placeholder `<hidden>` of a printed configuration: print it with \
         `--show-secrets`, or name a variable that holds it in `client_key_env`."
    );
    let references = "[apps.chat]\nclient_key_env = 'A'\nserver_key_env = 'B'\n\
                      [[apps.chat.session_keys]]\nalgorithm = 'HS256'\nsecret_env = 'C'\n";
    let references = references.to_owned() + &asking("secret_env", "D");
    let environment = [("A", CLIENT), ("B", SERVER), ("C", SECRET), ("D", SECRET)];
    let printed = load("", &environment, &references).expect("valid").to_toml(Secrets::Hidden);
    assert!(load("", &environment, &printed).is_ok(), "references are no secrets");
}

#[test]
fn a_printed_development_configuration_is_one_again() {
    let config = load("", &[("FANFARE_DEV_KEY", CLIENT)], "").expect("valid");
    for secrets in [Secrets::Hidden, Secrets::Shown] {
        let printed = config.to_toml(secrets);
        assert!(printed.starts_with("# No app is configured") && !printed.contains(CLIENT), "{printed}");
        assert!(toml(&printed).development.is_some());
    }
}

#[test]
fn the_summary_says_what_will_be_served() {
    let config = Config::from_toml(&format!("[server]\nworkers = 2\nadmin_listen = 'off'\n{}", chat("")));
    let summary = config.expect("valid").summary();
    assert_eq!(summary, "ok: no file; listen 127.0.0.1:8080; admin off; workers 2; apps chat");
    let development = load("--workers 1", &[], "").expect("valid").summary();
    assert!(development.ends_with("; admin 127.0.0.1:8081; workers 1; apps default (development)"));
}
