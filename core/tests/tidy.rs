//! The tree keeps its own rules: layers, a dialect's words in its module, lengths of files and lines.
//!
//! Allow-lists may only shrink: an entry that is larger than need be fails as well.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The modules of each layer. A layer may use itself and the layers above it in this list.
const LAYERS: [(&str, &[&str]); 6] = [
    (
        "vocabulary",
        &[
            "id",
            "limits",
            "command",
            "publication",
            "error",
            "disconnect",
            "now",
            "secret",
            "address",
            "schedule",
            "sync",
            "app",
            "token",
            "trigger",
            "user_states",
            "channel",
            "mailbox",
            "slots",
        ],
    ),
    ("codecs", &["ws", "http", "json", "proxy", "verdict"]),
    ("protocol layers", &["engineio", "socketio"]),
    ("translation", &["dialect"]),
    ("work", &["engine"]),
    ("crate", &["lib"]),
];

/// Words of the native dialect, as code would write them.
const NATIVE_WORDS: [&str; 9] = [
    "\"message:",
    "\"channel:",
    "message:edit",
    "message:delete",
    "channel:join",
    "channel:leave",
    "channel:update",
    "channel:user_",
    "{\\\"user\\\":",
];

/// Lines above 110 columns, by directory: nearly all are texts that rustfmt leaves as they are.
const LONG_LINES: &[(&str, usize)] = &[
    ("core/src", 2),
    ("core/src/app", 2),
    ("core/src/channel", 1),
    ("core/src/channel/history", 1),
    ("core/src/dialect/native", 1),
    ("core/src/engine", 3),
    ("core/src/publication", 1),
    ("core/src/token", 1),
    ("core/tests", 7),
    ("core/tests/recovery_simulation", 1),
    ("server/src", 4),
    ("server/src/config", 9),
    ("server/src/http", 1),
    ("server/src/worker", 1),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("core is in the workspace").to_owned()
}

/// Every Rust file of the workspace's crates: its path from the root, and its text.
fn files() -> Vec<(String, String)> {
    let (root, mut found) = (root(), Vec::new());
    let mut folders: Vec<PathBuf> =
        ["core", "server", "loadgen", "benches"].map(|name| root.join(name)).into();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder can be read") {
            let path = entry.expect("an entry can be read").path();
            let name = path.strip_prefix(&root).expect("it is below the root").to_string_lossy().into_owned();
            if path.is_dir() && !name.ends_with("/target") {
                folders.push(path);
            } else if name.ends_with(".rs") {
                let text = fs::read_to_string(&path).expect("a source is text");
                found.push((name, text));
            }
        }
    }
    found.sort();
    assert!(found.len() > 100, "the tree is here");
    found
}

/// The module of core that a file belongs to.
fn module(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("core/src/")?;
    rest.split('/').next().map(|name| name.trim_end_matches(".rs"))
}

fn is_test(path: &str) -> bool {
    path.contains("/tests") || path.contains("/probe/")
}

/// A source without comments and without the tests at its end.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let text = text.split("#[cfg(all(test, not(loom)))]\nmod tests {").next().unwrap_or_default();
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The modules of this crate that a source uses.
fn imports(code: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        if let Some(list) = rest.strip_prefix('{') {
            let (mut depth, mut item) = (0, String::new());
            for letter in list.chars() {
                match letter {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => used.extend(first_word(&std::mem::take(&mut item))),
                    _ if depth == 0 => item.push(letter),
                    _ => {}
                }
            }
            used.extend(first_word(&item));
        } else {
            used.extend(first_word(rest));
        }
    }
    used
}

fn first_word(text: &str) -> Option<String> {
    let word: String =
        text.trim_start().chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
    (!word.is_empty()).then_some(word)
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|(_, modules)| modules.contains(&module))
}

#[test]
fn imports_go_down_the_layers() {
    let mut upward = BTreeSet::new();
    for (path, text) in files().iter().filter(|(path, _)| !is_test(path)) {
        let Some(module) = module(path) else { continue };
        let of = layer(module).unwrap_or_else(|| panic!("{path} is in no layer"));
        for used in imports(&code(text)) {
            if layer(&used).is_some_and(|layer| layer > of) {
                upward.insert((path.clone(), used));
            }
        }
    }
    assert_eq!(upward, BTreeSet::new(), "imports against the layers");
}

#[test]
fn words_of_a_dialect_stand_in_its_module() {
    for (path, text) in files() {
        let is_dialect = ["native", "agnost", "channelstream", "xano"]
            .iter()
            .any(|name| path.starts_with(&format!("core/src/dialect/{name}/")));
        if !path.starts_with("core/src/") || is_dialect || is_test(&path) {
            continue;
        }
        let code = code(&text);
        for word in NATIVE_WORDS {
            assert!(!code.contains(word), "{path}: {word} belongs to the native dialect");
        }
    }
}

#[test]
fn dialects_are_told_apart_at_the_boundary_alone() {
    for (path, text) in files() {
        let is_outside = path.starts_with("core/src/") && !path.starts_with("core/src/dialect/");
        let code = code(&text);
        assert!(!is_outside || !code.contains("Dialect::"), "{path} tells dialects apart");
        let is_own = |name: &str| path.starts_with(&format!("core/src/dialect/{name}/"));
        let is_any = ["native", "agnost", "channelstream", "xano"].into_iter().any(is_own);
        let shares = is_any && code.contains("Dialect::");
        assert!(!shares, "{path} knows of other dialects");
    }
}

/// Words of Xano's protocol stand in the Xano dialect and the load generator's driver alone.
#[test]
fn words_of_xano_stand_in_its_module() {
    for (path, text) in files() {
        let code = code(&text);
        let is_known =
            ["dbo_id", "row_id", "socketId", "presence_full"].iter().any(|word| code.contains(word));
        let rooms = ["core/src/dialect/xano/", "core/fuzz/", "loadgen/src/drivers/xano.rs"];
        let is_room = rooms.iter().any(|room| path.starts_with(room));
        assert!(is_room || is_test(&path) || !is_known, "{path} knows Xano");
    }
}

/// The files that may know the protocol of Agnost's clients. The configuration only names it.
const AGNOST_ROOMS: [&str; 9] = [
    "core/src/dialect/agnost/",
    "core/src/dialect/mod.rs",
    "core/src/engineio/",
    "core/src/socketio/",
    "core/src/lib.rs",
    "core/fuzz/",
    "server/src/http/agnost.rs",
    "server/examples/socketio/",
    "loadgen/",
];

#[test]
fn a_foreign_protocol_stands_in_its_rooms() {
    for (path, text) in files() {
        let is_room = AGNOST_ROOMS.iter().any(|room| path.starts_with(room));
        let code = code(&text).to_lowercase();
        let has = |word: &str| code.contains(word);
        let is_known = ["engineio::", "socketio::", "altogic", "socket.io"].into_iter().any(has);
        assert!(is_room || is_test(&path) || !is_known, "{path} knows Socket.IO");
    }
}

#[test]
fn files_have_at_most_600_lines() {
    let long: BTreeSet<_> =
        files().into_iter().filter(|(_, text)| text.lines().count() > 600).map(|(path, _)| path).collect();
    assert_eq!(long, BTreeSet::new(), "files above 600 lines");
}

#[test]
fn lines_have_at_most_110_columns() {
    let mut long = BTreeMap::<String, usize>::new();
    for (path, text) in files() {
        let folder = path.rsplit_once('/').expect("a file is in a folder").0;
        let count = text.lines().filter(|line| line.chars().count() > 110).count();
        if count > 0 {
            *long.entry(folder.into()).or_default() += count;
        }
    }
    let allowed = LONG_LINES.iter().map(|(folder, count)| ((*folder).to_owned(), *count)).collect();
    assert_eq!(long, allowed, "found and allowed");
}
