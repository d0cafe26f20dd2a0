//! docs/CONFIGURATION.md and the example file say what the server does: every key, default and range is held
//! to it.

use fanfare_server::args::{Args, Secrets};
use fanfare_server::config::{Config, ConfigError};
use toml::{Table, Value};

const PAGE: &str = include_str!("../../docs/CONFIGURATION.md");
const EXAMPLE: &str = include_str!("../../fanfare.example.toml");
const CLIENT: &str = "client-key-0123456789";

/// The sections of the page, and a file in which `@` is a line of that section.
const SECTIONS: [(&str, &str); 16] = [
    ("[[apps.<name>.keys]]", "[apps.x]\nclient_key = 'client-key-0123456789'\n[[apps.x.keys]]\n@"),
    ("[server]", "[server]\n@\n[apps.x]\nclient_key = 'client-key-0123456789'"),
    ("[server.limits]", "[server.limits]\n@\n[apps.x]\nclient_key = 'client-key-0123456789'"),
    ("[[server.listeners]]", "[[server.listeners]]\n@\n[apps.x]\nclient_key = 'client-key-0123456789'"),
    (
        "[server.acme]",
        "[server.acme]\nagree_to_terms = true\n@\n[apps.x]\nclient_key = 'client-key-0123456789'",
    ),
    ("[log]", "[log]\n@\n[apps.x]\nclient_key = 'client-key-0123456789'"),
    ("[apps.<name>]", "[apps.x]\nclient_key = 'client-key-0123456789'\n@"),
    ("[apps.<name>.limits]", "[apps.x]\nclient_key = 'client-key-0123456789'\n[apps.x.limits]\n@"),
    ("[apps.<name>.agnost]", "[apps.x]\nclient_key = 'client-key-0123456789'\n[apps.x.agnost]\n@"),
    (
        "[apps.<name>.channelstream]",
        "[apps.x]\nclient_key = 'client-key-0123456789'\n[apps.x.channelstream]\nsecret = 's'\n@",
    ),
    ("[apps.<name>.xano]", "[apps.x]\nclient_key = 'client-key-0123456789'\n[apps.x.xano]\n@"),
    (
        "[[apps.<name>.xano.channels]]",
        "[apps.x]\nclient_key = 'client-key-0123456789'\n[[apps.x.xano.channels]]\npattern = 'a'\n@",
    ),
    (
        "[[apps.<name>.channels]]",
        "[apps.x]\nclient_key = 'client-key-0123456789'\n[[apps.x.channels]]\nmatch = 'a*'\n@",
    ),
    (
        "[[apps.<name>.triggers]]",
        "[apps.x]\nclient_key = 'client-key-0123456789'\n[[apps.x.triggers]]\nname = 't'\nchannel = 'c'\n\
         source = 'export function message() {}'\n@",
    ),
    (
        "[[apps.<name>.session_keys]]",
        "[apps.x]\nclient_key = 'client-key-0123456789'\n[[apps.x.session_keys]]\n@",
    ),
    (
        "[[apps.<name>.session_key_sets]]",
        "[apps.x]\nclient_key = 'client-key-0123456789'\n[[apps.x.session_key_sets]]\n\
         url = 'http://127.0.0.1:9/'\n@",
    ),
];

/// The section of triggers, with a trigger that asks a back end.
const URL_TRIGGER: &str = "[apps.x]\nclient_key = 'client-key-0123456789'\n[[apps.x.triggers]]\nname = 't'\n\
                           channel = 'c'\nurl = 'https://a'\nsecret = '0123456789abcdef'\n@";

/// One row of a section's table.
struct Row {
    keys: Vec<String>,
    default: String,
    range: Option<(i64, i64)>,
}

fn rows(section: &str) -> Vec<Row> {
    let heading = format!("\n## `{section}`\n");
    let (_, text) = PAGE.split_once(&heading).unwrap_or_else(|| panic!("the page has no section {section}"));
    let text = text.split("\n## ").next().unwrap_or(text);
    text.lines().filter(|line| line.starts_with("| `")).map(row).collect()
}

fn row(line: &str) -> Row {
    let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
    assert!(cells.len() == 5, "a row has five cells: {line}");
    let range = cells[3].split_once(" to ").map(|(min, max)| {
        let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("no number in {line}"));
        (number(min), number(max))
    });
    Row {
        keys: cells[0].split('`').skip(1).step_by(2).map(String::from).collect(),
        default: cells[2].replace('`', ""),
        range,
    }
}

/// The keys the server knows in a section: it lists them when it meets one it does not know.
fn known_keys(template: &str) -> Vec<String> {
    let refused = Config::from_toml(&template.replace('@', "qqqqqqqqqqqqqqqqqqqq = 1"));
    let sentence = refused.expect_err("there is no such key").to_string();
    let (_, list) = sentence.split_once("here, only ").expect("the sentence lists the keys");
    list.trim_end_matches('.').split(", ").map(String::from).collect()
}

#[test]
fn every_key_is_described_and_nothing_else() {
    for (section, template) in SECTIONS {
        let mut known = known_keys(template);
        known.retain(|key| {
            ![
                "limits",
                "listeners",
                "agnost",
                "channelstream",
                "xano",
                "channels",
                "triggers",
                "session_keys",
                "keys",
                "session_key_sets",
            ]
            .contains(&key.as_str())
        });
        // In a listener, it is a key.
        known.retain(|key| key != "acme" || section != "[server]");
        let mut described: Vec<String> = rows(section).into_iter().flat_map(|row| row.keys).collect();
        known.sort();
        described.sort();
        assert_eq!(described, known, "{section}");
    }
    let mut top = known_keys("@");
    top.sort();
    assert_eq!(top, ["apps", "log", "server"]);
}

#[test]
fn defaults_are_as_described() {
    let config = Config::from_toml(&format!("[apps.x]\nclient_key = '{CLIENT}'")).expect("valid");
    let printed: Table = config.to_toml(Secrets::Shown).parse().expect("it is TOML");
    let app = &printed["apps"]["x"];
    let sections = [
        ("[server]", &printed["server"]),
        ("[server.limits]", &printed["server"]["limits"]),
        ("[log]", &printed["log"]),
        ("[apps.<name>]", app),
        ("[apps.<name>.limits]", &app["limits"]),
    ];
    for (section, values) in sections {
        for row in rows(section).iter().filter(|row| row.default != "none" && row.keys[0] != "workers") {
            let described: Table =
                format!("value = {}", row.default).parse().expect("the default is written as in the file");
            assert_eq!(values.get(&row.keys[0]), Some(&described["value"]), "{section} {}", row.keys[0]);
        }
    }
}

fn load(template: &str, key: &str, value: i64) -> Result<Config, ConfigError> {
    Config::from_toml(&template.replace('@', &format!("{key} = {value}")))
}

#[test]
fn ranges_are_as_described() {
    for (section, template) in SECTIONS {
        for row in rows(section) {
            let Some((min, max)) = row.range else { continue };
            let key = &row.keys[0];
            // Some settings are for triggers with a `url`, and refused beside a script.
            let of_urls = load(template, key, min).is_err_and(|error| error.to_string().contains("a `url`"));
            let template = if of_urls { URL_TRIGGER } else { template };
            let load = |value| load(template, key, value);
            for value in [min - 1, max + 1] {
                let sentence = load(value).expect_err("out of range").to_string();
                let range = format!("{key}` is {value}: it must be a whole number from {min} to {max}");
                assert!(sentence.contains(&range), "{section} {key}: {sentence}");
            }
            for value in [min, max] {
                let sentence = load(value).err().map(|error| error.to_string()).unwrap_or_default();
                assert!(!sentence.contains("whole number"), "{section} {key}: {sentence}");
            }
        }
    }
}

#[test]
fn every_setting_of_the_server_is_a_variable() {
    for section in ["[server]", "[server.limits]", "[log]"] {
        for key in rows(section).iter().map(|row| &row.keys[0]) {
            let variable = match (section, key.as_str()) {
                ("[log]", "level") => String::from("FANFARE_LOG"),
                ("[log]", key) => format!("FANFARE_LOG_{}", key.to_uppercase()),
                (_, key) => format!("FANFARE_{}", key.to_uppercase()),
            };
            let refused = Config::load(&Args::default(), [(variable.as_str(), "?")]);
            let sentence = refused.expect_err("`?` is no value of any setting").to_string();
            assert!(sentence.starts_with(&format!("`{variable}` is ")), "{sentence}");
        }
    }
}

/// Loads the text of an example, with the variables that it names.
fn load_example(text: &str) -> Config {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let args = Args { config: Some(file.path().to_path_buf()), ..Args::default() };
    let environment = [
        ("CHAT_CLIENT_KEY", CLIENT),
        ("CHAT_SERVER_KEY", "server-key-0123456789"),
        ("CHAT_SESSION_SECRET", "a session secret of more than 32 bytes"),
    ];
    std::fs::write(file.path(), text).expect("the file can be written");
    Config::load(&args, environment).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn the_example_loads_with_and_without_its_comments() {
    let config = load_example(EXAMPLE);
    assert_eq!(config.apps.len(), 1);
    assert_eq!(config.warnings.len(), 0);

    let is_setting = |line: &&str| line.strip_prefix("# ").is_some_and(|rest| rest.contains(" = "));
    let complete: String = EXAMPLE
        .lines()
        .map(|line| format!("{}\n", line.strip_prefix("# ").filter(|_| is_setting(&line)).unwrap_or(line)))
        .collect();
    assert_ne!(complete, EXAMPLE);
    let defaults = load_example(&complete);
    assert_eq!(
        defaults.to_toml(Secrets::Shown),
        config.to_toml(Secrets::Shown),
        "comments show the defaults"
    );

    let table: Table = complete.parse().expect("it is TOML");
    for (section, mut values) in
        [("[server]", &table["server"]), ("[apps.<name>]", &table["apps"]["default"])]
    {
        for limits in [false, true] {
            let section = if limits { section.replace(']', ".limits]") } else { String::from(section) };
            values = if limits { &values["limits"] } else { values };
            for row in rows(&section) {
                let written_otherwise =
                    ["client_keys", "server_keys", "dashboard_password"].contains(&row.keys[0].as_str());
                let shown = values.get(&row.keys[0]).is_some_and(|value| !matches!(value, Value::Table(_)));
                assert!(shown || written_otherwise, "the example lacks {section} {}", row.keys[0]);
            }
        }
    }
}

#[test]
fn the_example_has_every_section() {
    let uncommented = |line: &str| {
        let text = line.strip_prefix('#').filter(|rest| !rest.is_empty() && !rest.starts_with(' '));
        format!("{}\n", text.unwrap_or(line))
    };
    let complete: String = EXAMPLE.lines().map(uncommented).collect();
    for (section, _) in SECTIONS {
        let heading = section.replace("<name>", "default");
        assert!(complete.lines().any(|line| line == heading), "the example lacks {heading}");
    }
    // Its certificates are the reader's own.
    let mut file: Table = complete.parse().expect("it is TOML");
    let server = file["server"].as_table_mut().expect("it is a section");
    assert!(server.remove("listeners").is_some() && server.remove("acme").is_some());
    load_example(&file.to_string());
}
