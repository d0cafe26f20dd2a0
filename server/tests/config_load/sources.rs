//! The sources of settings: defaults, the file, the environment, the command line.

use fanfare_core::app::{AppLimits, KeyRole, SlowConsumer};
use fanfare_core::token::Algorithm;
use fanfare_server::args::Args;
use fanfare_server::config::{Config, Endpoint, LogFormat};

use crate::{CLIENT, RSA_PUBLIC, SECRET, SERVER, chat, file, load, sentence, session_key, toml, with_file};

#[test]
fn without_configuration_there_are_development_keys_on_loopback() {
    let nothing: [(&str, &str); 0] = [];
    let config = Config::load(&Args::default(), nothing).expect("no configuration is needed");
    let keys = config.development.as_ref().expect("there are development keys");
    let app = config.apps.by_name("default").expect("the development app");
    assert_eq!(app.key_role(&keys.client_key), Some(KeyRole::Client));
    assert_eq!(app.key_role(&keys.server_key), Some(KeyRole::Server));
    assert!(!keys.server_key.contains(&keys.client_key), "whoever knows the one does not know the other");
    assert_eq!(config.listen, ["127.0.0.1:8080".parse::<Endpoint>().expect("an address")]);
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
    let flags = "--listen 127.0.0.1:3 --listen 127.0.0.1:4 --admin-listen off --workers 3 --pin=false --log \
        debug --log-format text";
    let seen = |config: Config| {
        let ports: Vec<u16> = config.listen.iter().filter_map(Endpoint::port).collect();
        let admin = config.admin_listen.and_then(|endpoint| endpoint.port());
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
                    "Without an app in the configuration file there are only development keys, which are \
                     not served on {address}: add `[apps.default]` with `client_keys` and `server_keys`, or \
                     listen on 127.0.0.1."
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
    let expected = "The environment variable `FANFARE_LISTN` is not a setting: unset it, or rename it to \
        `FANFARE_LISTEN`.";
    assert_eq!(sentence(refused), expected);
    // Variables that Kubernetes sets for a service named `fanfare`.
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
    // Variables that the file names are neither settings nor unknown variables.
    let text = format!("[apps.chat]\nserver_keys = '{SERVER}'\nclient_key_env = 'FANFARE_CHAT_KEY_A'");
    let chosen = [("FANFARE_CHAT_KEY_A", CLIENT), ("FANFARE_CHAT_KEY_B", CLIENT)];
    let config = load("", &chosen, &text).expect("warnings only");
    assert_eq!(config.warnings.len(), 1, "{:?}", config.warnings);
}

#[test]
fn keys_come_from_the_file_and_from_variables() {
    let text = "[apps.chat]\nclient_key = 'client-key-number-one'\n\
        client_key_env = ['A', 'B']\nserver_key_env = 'C'";
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
