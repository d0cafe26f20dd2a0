//! Flags, environment and file in; a configuration, or one sentence that says what to change, out.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Parser;
use fanfare_core::app::{AppLimits, KeyRole, SlowConsumer};
use fanfare_core::token::Algorithm;
use fanfare_server::args::{Args, Secrets};
use fanfare_server::config::{Config, ConfigError, LogFormat};
use tempfile::NamedTempFile;

const CLIENT: &str = "client-key-0123456789";
const SERVER: &str = "server-key-0123456789";
const SECRET: &str = "a session secret of more than 32 bytes";
const RSA_PUBLIC: &str = include_str!("../../core/tests/keys/rs256.public.pem");
const RSA_SHORT: &str = include_str!("../../core/tests/keys/rsa1024.public.pem");
const RSA_PRIVATE: &str = include_str!("../../core/tests/keys/rs256.private.pem");

/// A file with `text`, which lives as long as the value.
fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("it can be written");
    file
}

fn args(line: &str) -> Args {
    Args::try_parse_from(["fanfare"].into_iter().chain(line.split_whitespace()))
        .expect("a valid command line")
}

fn with_file(path: &Path, flags: &str) -> Args {
    Args { config: Some(PathBuf::from(path)), ..args(flags) }
}

fn load(flags: &str, environment: &[(&str, &str)], text: &str) -> Result<Config, ConfigError> {
    let file = file(text);
    Config::load(&with_file(file.path(), flags), environment.iter().copied())
}

fn toml(text: &str) -> Config {
    load("", &[], text).expect("a valid configuration")
}

/// The sentence that `text` is refused with, without the name of the file.
fn refusal(text: &str) -> String {
    sentence(load("", &[], text))
}

fn sentence(result: Result<Config, ConfigError>) -> String {
    let sentence = result.expect_err("it must be refused").to_string();
    assert!(sentence.ends_with('.') && !sentence.contains('\n'), "not a sentence: {sentence}");
    sentence
}

/// An app `chat` with keys, and these further lines.
fn chat(lines: &str) -> String {
    format!("[apps.chat]\nclient_keys = [\"{CLIENT}\"]\nserver_keys = [\"{SERVER}\"]\n{lines}\n")
}

/// The app `chat` with one session key of these lines.
fn session_key(lines: &str) -> String {
    chat(&format!("[[apps.chat.session_keys]]\n{lines}"))
}

#[test]
fn without_configuration_there_are_development_keys_on_loopback() {
    let nothing: [(&str, &str); 0] = [];
    let config = Config::load(&Args::default(), nothing).expect("no configuration is needed");
    let keys = config.development.as_ref().expect("there are development keys");
    let app = config.apps.by_name("default").expect("the development app");
    assert_eq!(app.key_role(&keys.client_key), Some(KeyRole::Client));
    assert_eq!(app.key_role(&keys.server_key), Some(KeyRole::Server));
    assert!(!keys.server_key.contains(&keys.client_key), "whoever knows the one does not know the other");
    assert_eq!(config.listen, ["127.0.0.1:8080".parse().expect("an address")]);
    let again = Config::load(&Args::default(), nothing).expect("no configuration is needed");
    assert_ne!(again.development, config.development, "the keys differ at each start");
    assert!(!format!("{config:?}").contains(&keys.client_key), "keys are not for logs");
}

#[test]
fn defaults_are_those_of_the_documentation() {
    let config = toml(&chat(""));
    assert_eq!(config.admin_listen, Some("127.0.0.1:8081".parse().expect("an address")));
    assert!((1..=128).contains(&config.workers) && !config.pin);
    assert_eq!((config.spin_us, config.ping_interval_ms, config.request_timeout_ms), (0, 25_000, 10_000));
    assert_eq!((config.keep_alive_ms, config.drain_ms, config.backlog), (60_000, 10_000, 4096));
    assert_eq!((config.connections, config.frame_bytes, config.fragments), (0, 1_048_576, 1024));
    assert_eq!((config.head_bytes, config.headers, config.body_bytes), (8192, 64, 1_048_576));
    assert_eq!(config.mailbox_depth, 65_536);
    assert_eq!((config.log.level.as_str(), config.log.format), ("info", LogFormat::Text));
    assert_eq!((config.development.is_none(), config.warnings.len()), (true, 0));
    let app = config.apps.by_name("chat").expect("the app");
    assert_eq!(app.limits, AppLimits::default());
    assert_eq!(app.slow_consumer, SlowConsumer::Disconnect);
    assert!(!app.session_required && app.echo && !app.membership_to_send && app.announce);
    assert!(app.origin_allowed(Some("https://anywhere.example")));
    assert_eq!((app.sessions.leeway_seconds(), app.sessions.require_exp()), (5, true));
}

#[test]
fn flags_go_before_variables_before_the_file_before_defaults() {
    let text = format!(
        "[server]\nlisten = '127.0.0.1:1'\nadmin_listen = '127.0.0.1:11'\nworkers = 1\npin = false\n\
         [log]\nlevel = 'error'\nformat = 'text'\n{}",
        chat("")
    );
    let environment = [
        ("FANFARE_LISTEN", "127.0.0.1:2, [::1]:2"),
        ("FANFARE_ADMIN_LISTEN", "127.0.0.1:12"),
        ("FANFARE_WORKERS", "2"),
        ("FANFARE_PIN", "true"),
        ("FANFARE_LOG", "warn,mio=off"),
        ("FANFARE_LOG_FORMAT", "json"),
    ];
    let flags = "--listen 127.0.0.1:3 --listen 127.0.0.1:4 --admin-listen off --workers 3 --pin=false --log debug \
         --log-format text";
    let seen = |config: Config| {
        let ports: Vec<u16> = config.listen.iter().map(|address| address.port()).collect();
        let admin = config.admin_listen.map(|address| address.port());
        (ports, admin, config.workers, config.pin, config.log.level, config.log.format)
    };
    let from_file = seen(load("", &[], &text).expect("valid"));
    assert_eq!(from_file, (vec![1], Some(11), 1, false, "error".into(), LogFormat::Text));
    let from_environment = seen(load("", &environment, &text).expect("valid"));
    assert_eq!(from_environment, (vec![2, 2], Some(12), 2, true, "warn,mio=off".into(), LogFormat::Json));
    let from_flags = seen(load(flags, &environment, &text).expect("valid"));
    assert_eq!(from_flags, (vec![3, 4], None, 3, false, "debug".into(), LogFormat::Text));
}

#[test]
fn every_number_of_the_server_is_a_variable_too() {
    let text = format!("[server]\ndrain_ms = 1\n[server.limits]\nframe_bytes = 100000\n{}", chat(""));
    let environment = [("FANFARE_DRAIN_MS", "2"), ("FANFARE_FRAME_BYTES", "200000"), ("FANFARE_BACKLOG", "")];
    let config = load("", &environment, &text).expect("valid");
    assert_eq!((config.drain_ms, config.frame_bytes), (2, 200_000));
    assert_eq!(config.backlog, 4096, "a variable set to nothing is not set");
    let wrong = load("", &[("FANFARE_DRAIN_MS", "2s")], &text);
    assert_eq!(sentence(wrong), "`FANFARE_DRAIN_MS` is 2s: it must be a whole number from 0 to 600000.");
}

#[test]
fn the_file_is_named_by_flag_or_variable() {
    let (one, two) = (file("[server]\ndrain_ms = 1"), file("[server]\ndrain_ms = 2"));
    let environment = [("FANFARE_CONFIG", two.path().to_str().expect("a plain path"))];
    let config = Config::load(&Args::default(), environment).expect("valid");
    assert_eq!(config.drain_ms, 2);
    let config = Config::load(&with_file(one.path(), ""), environment).expect("valid");
    assert_eq!(config.drain_ms, 1);
    let missing = Config::load(&Args::default(), [("FANFARE_CONFIG", "/nowhere/fanfare.toml")]);
    assert!(sentence(missing).starts_with("Cannot read `/nowhere/fanfare.toml`: No such file"));
}

#[test]
fn development_keys_are_never_served_to_other_machines() {
    for address in ["0.0.0.0:8080", "[::]:8080", "192.0.2.1:80", "[::ffff:192.0.2.1]:80"] {
        for flags in ["--listen 127.0.0.1:1 --listen", "--listen 127.0.0.1:1 --admin-listen"] {
            let refused = load(&format!("{flags} {address}"), &[("FANFARE_DEV_KEY", CLIENT)], "");
            assert_eq!(
                sentence(refused),
                format!(
                    "Without an app in the configuration file there are only development keys, which are not served on \
                     {address}: add `[apps.default]` with `client_keys` and `server_keys`, or listen on 127.0.0.1."
                )
            );
            assert!(load(&format!("{flags} {address}"), &[], &chat("")).is_ok());
        }
    }
    for address in ["127.0.0.1:0", "127.8.8.8:80", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
        assert!(load(&format!("--listen {address}"), &[], "").is_ok(), "{address}");
        assert!(load(&format!("--admin-listen {address}"), &[], "").is_ok(), "{address}");
    }
    assert!(load("--admin-listen off", &[], "").is_ok());
}

#[test]
fn development_keys_can_be_fixed() {
    let config = load("", &[("FANFARE_DEV_KEY", CLIENT)], "").expect("valid");
    let keys = config.development.expect("there are development keys");
    assert_eq!((keys.client_key, keys.server_key), (CLIENT.into(), format!("{CLIENT}-server")));
    for key in ["short", "with spaces, but long", &"k".repeat(250)] {
        let refused = load("", &[("FANFARE_DEV_KEY", key)], "");
        let expected = "`FANFARE_DEV_KEY` must have 16 to 249 visible ASCII characters without spaces.";
        assert_eq!(sentence(refused), expected);
    }
    let config = load("", &[("FANFARE_DEV_KEY", CLIENT)], &chat("")).expect("valid");
    assert!(config.development.is_none());
    assert_eq!(config.warnings, ["`FANFARE_DEV_KEY` has no effect, because the file configures apps."]);
}

#[test]
fn mistyped_variables_are_refused_and_strange_ones_are_named() {
    let refused = load("", &[("FANFARE_LISTN", "127.0.0.1:1")], "");
    let expected = "The environment variable `FANFARE_LISTN` is not a setting: unset it, or rename it to `FANFARE_LISTEN`.";
    assert_eq!(sentence(refused), expected);
    // What Kubernetes sets for a service named `fanfare`.
    let strange = [
        ("FANFARE_PORT", "tcp://10.0.0.1:80"),
        ("FANFARE_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("FANFARE_SERVICE_HOST", "10.0.0.1"),
        ("OTHER_LISTEN", "x"),
    ];
    let config = load("", &strange, "").expect("warnings only");
    assert_eq!(config.warnings.len(), 3);
    let expected = "The environment variable `FANFARE_PORT` is not a setting, and has no effect.";
    assert_eq!(config.warnings[0], expected);
    // Names that the file chose are neither settings nor strange.
    let text = format!("[apps.chat]\nserver_keys = '{SERVER}'\nclient_key_env = 'FANFARE_CHAT_KEY_A'");
    let chosen = [("FANFARE_CHAT_KEY_A", CLIENT), ("FANFARE_CHAT_KEY_B", CLIENT)];
    let config = load("", &chosen, &text).expect("warnings only");
    assert_eq!(config.warnings.len(), 1, "{:?}", config.warnings);
}

#[test]
fn keys_come_from_the_file_and_from_variables() {
    let text = "[apps.chat]\nclient_key = 'client-key-number-one'\nclient_key_env = ['A', 'B']\nserver_key_env = 'C'";
    let environment =
        [("A", "client-key-number-two"), ("B", "client-key-number-three"), ("C", "server-key-number-one")];
    let config = load("", &environment, text).expect("valid");
    let app = config.apps.by_name("chat").expect("the app");
    for key in ["client-key-number-one", "client-key-number-two", "client-key-number-three"] {
        assert_eq!(app.key_role(key), Some(KeyRole::Client));
    }
    assert_eq!(app.key_role("server-key-number-one"), Some(KeyRole::Server));
    let unset = load("", &environment[1..], text);
    let expected = "`apps.chat.client_key_env` names the environment variable `A`, which is not set.";
    assert_eq!(sentence(unset), expected);
    let weak = load("", &[("A", "short"), environment[1], environment[2]], text);
    assert_eq!(sentence(weak), "`A` has a key that must have at least 16 bytes.");
}

#[test]
fn apps_have_their_own_rules() {
    let text = chat(
        "origins = ['https://*.example.com']\nsession_exp_required = false\nsession_leeway_seconds = 0\n\
         echo = false\nmembership_to_send = true\nannounce = false\nslow_consumer = 'drop'\n\
         [apps.chat.limits]\nmessage_bytes = 100\nconnections = 7\nchannels_per_connection = 65535\n\
         [apps.'with.dot']\nserver_key = 'another-server-key'",
    );
    let config = toml(&text);
    let app = config.apps.by_name("chat").expect("the app");
    assert!(!app.echo && app.membership_to_send && !app.announce);
    assert_eq!(app.slow_consumer, SlowConsumer::Drop);
    assert!(app.origin_allowed(Some("https://a.example.com")) && !app.origin_allowed(Some("https://a.org")));
    assert_eq!((app.sessions.leeway_seconds(), app.sessions.require_exp()), (0, false));
    let limits = app.limits;
    assert_eq!((limits.message_bytes, limits.connections, limits.channels_per_connection), (100, 7, 65_535));
    assert_eq!(limits.profile_bytes, 4096, "the rest keeps its default");
    assert!(config.apps.by_name("with.dot").is_some_and(|app| app.key_role(CLIENT).is_none()));
}

#[test]
fn session_keys_come_from_every_source() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("fanfare.toml");
    let text = session_key(&format!(
        "algorithm = 'HS256'\nsecret = '{SECRET}'\n\
         [[apps.chat.session_keys]]\nalgorithm = 'HS256'\nkid = 'env'\nsecret_env = 'SESSION_SECRET'\n\
         [[apps.chat.session_keys]]\nalgorithm = 'RS256'\npublic_key = '''\n{RSA_PUBLIC}'''\n\
         [[apps.chat.session_keys]]\nalgorithm = 'RS256'\npublic_key_file = 'key.pem'\n"
    ));
    std::fs::write(&path, text).expect("the file can be written");
    let environment = [("SESSION_SECRET", SECRET)];
    let missing = Config::load(&with_file(&path, ""), environment);
    assert!(
        sentence(missing).contains("key.pem`, which cannot be read: No such file"),
        "it is looked for beside the file"
    );
    std::fs::write(folder.path().join("key.pem"), RSA_PUBLIC).expect("the file can be written");
    let config = Config::load(&with_file(&path, ""), environment).expect("valid");
    let app = config.apps.by_name("chat").expect("the app");
    let algorithms: Vec<Algorithm> = app.sessions.keys().iter().map(|key| key.algorithm()).collect();
    assert_eq!(algorithms, [Algorithm::Hs256, Algorithm::Hs256, Algorithm::Rs256, Algorithm::Rs256]);
    assert_eq!(app.sessions.keys()[1].kid(), Some("env"));
    assert!(!format!("{config:?}").contains(SECRET), "secrets are not for logs");
}

#[test]
fn unknown_keys_and_wrong_types_are_refused_with_their_line() {
    let refused = |text: &str| {
        let file = file(text);
        let sentence = sentence(Config::load(&with_file(file.path(), ""), [] as [(&str, &str); 0]));
        let name = format!("`{}`", file.path().display());
        sentence.replace(&name, "FILE")
    };
    assert_eq!(
        refused("[server]\n\nwrokers = 4\n"),
        "FILE, line 3: there is no key `wrokers` here, but there is `workers`."
    );
    assert_eq!(
        refused("[log]\ncolour = true"),
        "FILE, line 2: there is no key `colour` here, only level, format."
    );
    assert_eq!(refused("[sever]\n"), "FILE, line 1: there is no key `sever` here, but there is `server`.");
    let line = refused(&session_key("algorithm = 'HS256'\nsecert = 'x'"));
    assert_eq!(line, "FILE, line 6: there is no key `secert` here, but there is `secret`.");
    assert_eq!(
        refused("[server]\nbacklog = 'many'"),
        "FILE, line 2: `backlog` has an invalid type: string \"many\", expected an integer."
    );
    assert_eq!(
        refused("[server]\nlisten = 8080"),
        "FILE, line 2: `listen` has an invalid type: integer `8080`, expected a string or a list of strings."
    );
    assert_eq!(
        refused("[apps]\nclient_keys = ['x']"),
        "FILE, line 2: `client_keys` has an invalid type: sequence, expected a section with keys of its own."
    );
    for text in ["server = []", "[apps.a]\nsession_keys = [[]]", "[server]\nlimits = 3"] {
        assert!(refused(text).ends_with("expected a section with keys of its own."), "{}", refused(text));
    }
    assert!(refused("[server]\nbacklog = \n").starts_with("FILE, line 2: "));
    assert!(refused("[server]\npin = true\npin = true").starts_with("FILE, line 3: duplicate key"));
    assert_eq!(
        refused("[server]\nlog = 'info'"),
        "FILE, line 2: there is no key `log` here: `[log]` is a section of its own."
    );
    let other = refused("[server]\nnip = true");
    assert!(other.starts_with("FILE, line 2: there is no key `nip` here, only listen, "), "{other}");
    assert!(refused("[server]\n[apps.chat\n").starts_with("FILE, line 2: "));
}

#[test]
fn settings_of_the_server_are_checked() {
    let address = "write an IP address and a port, such as 127.0.0.1:8080 or [::]:8080.";
    let cases = [
        ("[server]\nlisten = 'localhost:80'", format!("`server.listen` is `localhost:80`: {address}")),
        ("[server]\nlisten = []", "`server.listen` must name 1 to 16 addresses.".into()),
        (
            "[server]\nlisten = ['127.0.0.1:80', '127.0.0.1:80']",
            "`server.listen` names 127.0.0.1:80 twice.".into(),
        ),
        ("[server]\nadmin_listen = 'none'", format!("`server.admin_listen` is `none`: {address}")),
        (
            "[server]\nadmin_listen = '0.0.0.0:8080'",
            "`server.admin_listen` is 0.0.0.0:8080, where 127.0.0.1:8080 is served already: give it a port of its \
             own."
                .into(),
        ),
        (
            "[server]\nworkers = 129",
            "`server.workers` is 129: it must be a whole number from 0 to 128, or auto.".into(),
        ),
        (
            "[server]\nworkers = 'all'",
            "`server.workers` is all: it must be a whole number from 0 to 128, or auto.".into(),
        ),
        (
            "[server.limits]\nheaders = -1",
            "`server.limits.headers` is -1: it must be a whole number from 16 to 256.".into(),
        ),
        (
            "[log]\nlevel = 'loud'",
            "`log.level` is `loud`: write off, error, warn, info, debug or trace, or such levels per target as in \
             `info,fanfare_server=debug`."
                .into(),
        ),
        ("[log]\nformat = 'xml'", "`log.format` is `xml`: it must be text or json.".into()),
    ];
    for (text, expected) in cases {
        assert_eq!(refusal(text), expected);
    }
    let flag = load("--workers x", &[], "");
    assert_eq!(sentence(flag), "`--workers` is x: it must be a whole number from 0 to 128, or auto.");
    let flag = load("--log-format x", &[], "");
    assert_eq!(sentence(flag), "`--log-format` is `x`: it must be text or json.");
    let variable = load("", &[("FANFARE_PIN", "yes")], "");
    assert_eq!(sentence(variable), "`FANFARE_PIN` is `yes`: it must be true or false.");
    assert!(load("--listen 127.0.0.1:0 --listen 127.0.0.1:0", &[], "").is_ok(), "port 0 is any port");
}

#[test]
fn settings_of_apps_are_checked() {
    let cases = [
        (
            String::from("[apps.chat]\n"),
            "`apps.chat` has no keys, so nobody can use it: add `client_keys` and `server_keys`, of 16 to 256 visible \
             ASCII characters each.",
        ),
        (
            String::from("[apps.chat]\nclient_key = 'short'"),
            "`apps.chat.client_keys` has a key that must have at least 16 bytes.",
        ),
        (
            format!("[apps.chat]\nclient_key = '{CLIENT}'\nserver_key = '{CLIENT}'"),
            "`apps.chat.server_keys` has a key that is a client key too: whoever may connect could do everything, so give \
             the back end a key of its own.",
        ),
        (
            chat("origins = ['example.com']"),
            "`apps.chat.origins` is wrong: `example.com` is not an origin; write `https://example.com` (scheme, host, \
             a port if need be, and nothing after it), `https://*.example.com` or `*`.",
        ),
        (
            chat("slow_consumer = 'wait'"),
            "`apps.chat.slow_consumer` is `wait`: it must be disconnect or drop.",
        ),
        (
            chat("session_required = true"),
            "`apps.chat.session_required` is true, but nobody can have a session: add an `[[session_keys]]` entry to \
             the app.",
        ),
        (
            chat("session_leeway_seconds = 301"),
            "`apps.chat.session_leeway_seconds` is 301: it must be a whole number from 0 to 300.",
        ),
        (
            chat("[apps.chat.limits]\nchannel_name_bytes = 257"),
            "`apps.chat.limits.channel_name_bytes` is 257: it must be a whole number from 1 to 256.",
        ),
        (
            format!("[apps.'a b']\nclient_key = '{CLIENT}'"),
            "`a b` is not a name for an app: use 1 to 64 letters, digits, `.`, `_` and `-`.",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(refusal(&text), expected);
    }
    let many: Vec<String> = (0..33).map(|n| format!("'client-key-number-{n}'")).collect();
    let many = format!("[apps.chat]\nclient_keys = [{}]", many.join(","));
    assert_eq!(refusal(&many), "`apps.chat.client_keys` must not have more than 32 entries.");
}

#[test]
fn rules_about_channels_are_checked() {
    let rule =
        |lines: &str| chat(&format!("[[apps.chat.channels]]\nmatch = 'a*'\n[[apps.chat.channels]]\n{lines}"));
    let none = "` must be a channel's name, or the beginning of one with a `*` behind it.";
    let long = format!("match = '{}'", "x".repeat(258));
    for (lines, expected) in [
        ("announce = true", format!(".match{none}")),
        ("match = ''", format!(".match{none}")),
        (&*long, format!(".match{none}")),
        ("match = 'a*b'", ".match` is `a*b`: a `*` may only be its last character.".into()),
        ("match = '**'", ".match` is `**`: a `*` may only be its last character.".into()),
        ("match = 'a*'", ".match` is `a*`, which another entry has too: keep one of them.".into()),
        (
            "match = 'b'\nslow_consumer = 'wait'",
            ".slow_consumer` is `wait`: it must be disconnect or drop.".into(),
        ),
        (
            "match = 'b'\nhistory_messages = 65537",
            ".history_messages` is 65537: it must be a whole number from 0 to 65536.".into(),
        ),
    ] {
        assert_eq!(refusal(&rule(lines)), format!("`apps.chat.channels[1]{expected}"), "{lines}");
    }
    let rules = |count: usize| -> String {
        (0..count).map(|number| format!("[[apps.chat.channels]]\nmatch = 'room-{number}'\n")).collect()
    };
    toml(&chat(&rules(256)));
    assert_eq!(refusal(&chat(&rules(257))), "`apps.chat.channels` must not have more than 256 entries.");
}

#[test]
fn keys_and_names_have_their_bounds() {
    let long = "k".repeat(257);
    for (key, problem) in [
        (&*long, "must have at most 256 bytes"),
        ("a key with spaces in it", "must be visible ASCII characters without spaces"),
        ("ein-schlüssel-mit-umlaut", "must be visible ASCII characters without spaces"),
    ] {
        for role in ["client_keys", "server_keys"] {
            let refused = refusal(&format!("[apps.chat]\n{role} = ['{key}']"));
            assert_eq!(refused, format!("`apps.chat.{role}` has a key that {problem}."));
        }
    }
    let both = refusal(&format!("[apps.chat]\nclient_key = '{CLIENT}'\nclient_keys = '{CLIENT}'"));
    assert_eq!(
        both,
        "`apps.chat.client_key` stands beside `client_keys`, which is the same setting: keep one of them."
    );
    let shared = refusal(&format!("[apps.chat]\nclient_key = '{CLIENT}'\nserver_key = '{CLIENT}'"));
    assert!(shared.starts_with("`apps.chat.server_keys` has a key that is a client key too"), "{shared}");
    let twice = refusal(&format!("[apps.chat]\nclient_keys = ['{CLIENT}', '{CLIENT}']"));
    assert!(twice.contains("must differ from every other key"), "{twice}");
    let many: Vec<String> = (0..33).map(|n| format!("'server-key-number-{n}'")).collect();
    let many = refusal(&format!("[apps.chat]\nserver_keys = [{}]", many.join(",")));
    assert_eq!(many, "`apps.chat.server_keys` must not have more than 32 entries.");
    let session_keys =
        format!("[[apps.chat.session_keys]]\nalgorithm = 'HS256'\nsecret = '{SECRET}'\n").repeat(33);
    let many = refusal(&chat(&session_keys));
    assert_eq!(many, "`apps.chat.session_keys` must not have more than 32 entries.");
    let name = refusal(&format!("[apps.{}]\nclient_key = '{CLIENT}'", "a".repeat(65)));
    assert!(
        name.ends_with("is not a name for an app: use 1 to 64 letters, digits, `.`, `_` and `-`."),
        "{name}"
    );
    let listen: Vec<String> = (1..=17).map(|port| format!("'127.0.0.1:{port}'")).collect();
    let listen = refusal(&format!("[server]\nlisten = [{}]", listen.join(",")));
    assert_eq!(listen, "`server.listen` must name 1 to 16 addresses.");
}

#[test]
fn session_keys_are_checked() {
    let private = format!("algorithm = 'RS256'\npublic_key = '''{RSA_PRIVATE}'''");
    let confused = format!("algorithm = 'HS256'\nsecret = '''{RSA_PUBLIC}'''");
    let wrong = format!("algorithm = 'ES256'\npublic_key = '''{RSA_PUBLIC}'''");
    let short_rsa = format!("algorithm = 'RS256'\npublic_key = '''{RSA_SHORT}'''");
    let long_kid = format!("algorithm = 'HS256'\nkid = '{}'", "k".repeat(257));
    let cases = [
        ("", "].algorithm` must be one of HS256, HS384, HS512, RS256, ES256, EdDSA."),
        ("algorithm = 'none'", "].algorithm` must be one of HS256, HS384, HS512, RS256, ES256, EdDSA."),
        (
            "algorithm = 'HS256'",
            "]` must have exactly one of `secret`, `secret_env`, `public_key` and `public_key_file`.",
        ),
        (
            "algorithm = 'HS256'\nsecret = 'a'\nsecret_env = 'A'",
            "]` must have exactly one of `secret`, `secret_env`, `public_key` and `public_key_file`.",
        ),
        (
            "algorithm = 'HS256'\nsecret = 'short'",
            "].secret` must be a secret of at least 32 bytes for this algorithm.",
        ),
        (
            "algorithm = 'RS256'\nsecret = 'short'",
            "].secret` does not fit RS256, which verifies with a public key: give `public_key` or `public_key_file` in \
             its place.",
        ),
        (
            "algorithm = 'HS256'\npublic_key = 'x'",
            "].public_key` does not fit HS256, which verifies with a secret: give `secret` or `secret_env` in its place.",
        ),
        (
            "algorithm = 'HS256'\nsecret_env = 'UNSET'",
            "].secret_env` names the environment variable `UNSET`, which is not set.",
        ),
        (
            &private,
            "].public_key` must be a `PUBLIC KEY` in PEM, not a private key, a certificate or several of them.",
        ),
        (
            &confused,
            "].secret` is a PEM text where a secret belongs: name the algorithm of that key instead.",
        ),
        (&wrong, "].public_key` must be a P-256 public key in PEM for this algorithm."),
        ("algorithm = 'HS256'\nkid = ''", "].kid` must have 1 to 256 bytes."),
        (&long_kid, "].kid` must have 1 to 256 bytes."),
        (
            "algorithm = 'HS384'\nsecret = 'a secret of only 33 bytes, or so.'",
            "].secret` must be a secret of at least 48 bytes for this algorithm.",
        ),
        (
            "algorithm = 'HS512'\nsecret = 'a secret of only 33 bytes, or so.'",
            "].secret` must be a secret of at least 64 bytes for this algorithm.",
        ),
        (&short_rsa, "].public_key` must be an RSA key of at least 2048 bits."),
        (
            "algorithm = 'HS256'\nsecret = '<hidden>'",
            "].secret` is the placeholder `<hidden>` of a printed configuration: print it with `--show-secrets`, or \
             name a variable that holds it in `secret_env`.",
        ),
    ];
    for (lines, expected) in cases {
        assert_eq!(refusal(&session_key(lines)), format!("`apps.chat.session_keys[0{expected}"), "{lines}");
    }
}

#[test]
fn a_key_file_that_cannot_be_read_is_named_with_its_setting() {
    let sentence = refusal(&session_key("algorithm = 'RS256'\npublic_key_file = '/nowhere.pem'"));
    let expected = "`apps.chat.session_keys[0].public_key_file` is `/nowhere.pem`, which cannot be read: ";
    assert!(sentence.starts_with(expected), "{sentence}");
}

#[test]
fn a_negative_number_of_workers_is_a_number_out_of_range() {
    let refused = load("--workers -1", &[], &chat(""));
    assert_eq!(sentence(refused), "`--workers` is -1: it must be a whole number from 0 to 128, or auto.");
}

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
fn limits_leave_room_for_what_apps_allow() {
    let limits = |server: &str, app: &str| {
        load("", &[], &format!("[server.limits]\n{server}\n{}", chat(&format!("[apps.chat.limits]\n{app}"))))
    };
    let message = "`apps.chat.limits.message_bytes` is 65536";
    for name in ["frame_bytes", "body_bytes"] {
        assert!(limits(&format!("{name} = 66560"), "").is_ok());
        let expected =
            format!("`server.limits.{name}` is 66559: it must be at least 66560, because {message}.");
        assert_eq!(sentence(limits(&format!("{name} = 66559"), "")), expected);
    }
    assert!(limits("", "outbound_bytes = 133120").is_ok());
    let expected = format!(
        "`apps.chat.limits.outbound_bytes` is 133119: it must be at least 133120, because {message}, and two of them \
         must fit."
    );
    assert_eq!(sentence(limits("", "outbound_bytes = 133119")), expected);
    let profile = limits("frame_bytes = 16384", "message_bytes = 16\nprofile_bytes = 16384");
    let expected = "`server.limits.frame_bytes` is 16384: it must be at least 17408, because \
                    `apps.chat.limits.profile_bytes` is 16384.";
    assert_eq!(sentence(profile), expected);
}

#[test]
fn a_printed_configuration_is_read_back_as_the_same() {
    let text = format!(
        "[server]\nlisten = ['127.0.0.1:1', '[::1]:0']\nadmin_listen = 'off'\nworkers = 3\npin = true\nspin_us = 9\n\
         [server.limits]\nframe_bytes = 2000000\nmailbox_depth = 100\n[log]\nlevel = 'info,a=off'\nformat = 'json'\n\
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

#[test]
fn hidden_secrets_are_not_printed_and_not_accepted() {
    let text = session_key(&format!("algorithm = 'HS256'\nsecret = '{SECRET}'"));
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
                      [[apps.chat.session_keys]]\nalgorithm = 'HS256'\nsecret_env = 'C'";
    let environment = [("A", CLIENT), ("B", SERVER), ("C", SECRET)];
    let printed = load("", &environment, references).expect("valid").to_toml(Secrets::Hidden);
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
