//! Configurations that are refused, each with a sentence that names the error.

use fanfare_server::config::Config;

use crate::{CLIENT, RSA_PUBLIC, SECRET, chat, file, load, refusal, sentence, session_key, toml, with_file};

const RSA_SHORT: &str = include_str!("../../../core/tests/keys/rsa1024.public.pem");
const RSA_PRIVATE: &str = include_str!("../../../core/tests/keys/rs256.private.pem");

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
    let address = "write an IP address or a host name and a port, such as 127.0.0.1:8080, [::]:8080 or \
                   localhost:8080, or a Unix socket, such as unix:/run/fanfare.sock.";
    let cases = [
        ("[server]\nlisten = 'localhost'", format!("`server.listen` is `localhost`: {address}")),
        ("[server]\nlisten = '10.0.0.256:80'", format!("`server.listen` is `10.0.0.256:80`: {address}")),
        ("[server]\nlisten = 'unix:a.sock'", format!("`server.listen` is `unix:a.sock`: {address}")),
        (
            "[server]\nlisten = 'unix:/a.sock'\nadmin_listen = 'unix:/a.sock'",
            "`server.admin_listen` is unix:/a.sock, where unix:/a.sock is served already: give it a port of \
             its own."
                .into(),
        ),
        (
            "[server]\nsocket_mode = '660'",
            "`server.socket_mode` is `660`: it must be four octal digits, such as 0660.".into(),
        ),
        (
            "[server]\ntrusted_proxies = ['10.0.0.0/8', '10.0.0.1/8']",
            "`server.trusted_proxies` is a list with `10.0.0.1/8`: each network must not have a bit set \
             after its prefix, or the word unix."
                .into(),
        ),
        (
            "[server]\nforwarding_header = 'x-real-ip'",
            "`server.forwarding_header` is `x-real-ip`: it must be x-forwarded-for or forwarded.".into(),
        ),
        ("[server]\nlisten = []", "`server.listen` must name 1 to 16 addresses.".into()),
        (
            "[server]\nlisten = ['127.0.0.1:80', '127.0.0.1:80']",
            "`server.listen` names 127.0.0.1:80 twice.".into(),
        ),
        ("[server]\nadmin_listen = 'none'", format!("`server.admin_listen` is `none`: {address}")),
        (
            "[server]\nadmin_listen = '0.0.0.0:8080'",
            "`server.admin_listen` is 0.0.0.0:8080, where 127.0.0.1:8080 is served already: give it a port \
             of its own."
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
            "`log.level` is `loud`: write off, error, warn, info, debug or trace, or such levels per target \
             as in `info,fanfare_server=debug`."
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
            "`apps.chat` has no keys, so nobody can use it: add `client_keys` and `server_keys`, of 16 to \
             256 visible ASCII characters each.",
        ),
        (
            String::from("[apps.chat]\nclient_key = 'short'"),
            "`apps.chat.client_keys` has a key that must have at least 16 bytes.",
        ),
        (
            format!("[apps.chat]\nclient_key = '{CLIENT}'\nserver_key = '{CLIENT}'"),
            "`apps.chat.server_keys` has a key that is a client key too: whoever may connect could do \
             everything, so give the back end a key of its own.",
        ),
        (
            chat("origins = ['example.com']"),
            "`apps.chat.origins` is wrong: `example.com` is not an origin; write `https://example.com` \
             (scheme, host, a port if need be, and nothing after it), `https://*.example.com` or `*`.",
        ),
        (
            chat("slow_consumer = 'wait'"),
            "`apps.chat.slow_consumer` is `wait`: it must be disconnect or drop.",
        ),
        (
            chat("session_required = true"),
            "`apps.chat.session_required` is true, but nobody can have a session: add an `[[session_keys]]` \
             entry to the app.",
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
            "].secret` does not fit RS256, which verifies with a public key: give `public_key` or \
             `public_key_file` in its place.",
        ),
        (
            "algorithm = 'HS256'\npublic_key = 'x'",
            "].public_key` does not fit HS256, which verifies with a secret: give `secret` or `secret_env` \
             in its place.",
        ),
        (
            "algorithm = 'HS256'\nsecret_env = 'UNSET'",
            "].secret_env` names the environment variable `UNSET`, which is not set.",
        ),
        (
            &private,
            "].public_key` must be a `PUBLIC KEY` in PEM, not a private key, a certificate or several of \
             them.",
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
            "].secret` is the placeholder `<hidden>` of a printed configuration: print it with \
             `--show-secrets`, or name a variable that holds it in `secret_env`.",
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
        "`apps.chat.limits.outbound_bytes` is 133119: it must be at least 133120, because {message}, and \
         two of them must fit."
    );
    assert_eq!(sentence(limits("", "outbound_bytes = 133119")), expected);
    let profile = limits("frame_bytes = 16384", "message_bytes = 16\nprofile_bytes = 16384");
    let expected = "`server.limits.frame_bytes` is 16384: it must be at least 17408, because \
                    `apps.chat.limits.profile_bytes` is 16384.";
    assert_eq!(sentence(profile), expected);
}
