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

/// Names that functions of the workspace share with functions of the standard library.
const STANDARD: [&str; 3] = ["new", "push", "set"];

#[test]
fn no_call_has_a_bool_literal() {
    let sources: Vec<(String, String)> = files()
        .into_iter()
        .filter(|(path, _)| path.contains("/src/") && !is_test(path))
        .map(|(path, text)| (path, without_texts(&code(&text))))
        .collect();
    let defined = |code: &str| -> Vec<String> {
        let functions = code.match_indices("fn ").filter_map(|(at, _)| function(&code[at + 3..]));
        let takes_bool = |parameters: &str| arguments(parameters).iter().any(|one| one.ends_with(": bool"));
        functions.filter(|(_, rest)| takes_bool(rest)).map(|(name, _)| name).collect()
    };
    let names: BTreeSet<String> = sources.iter().flat_map(|(_, code)| defined(code)).collect();
    assert!(names.len() > 10, "the functions are found: {names:?}");
    let mut found = Vec::new();
    for (path, code) in &sources {
        for (at, _) in code.match_indices('(') {
            let name = last_word(&code[..at]);
            let is_call = names.contains(name) && !code[..at - name.len()].ends_with("fn ");
            let is_literal = |argument: &String| ["true", "false"].contains(&argument.as_str());
            if is_call && !STANDARD.contains(&name) && arguments(&code[at + 1..]).iter().any(is_literal) {
                found.push(format!("{path}: {name}"));
            }
        }
    }
    assert_eq!(found, Vec::<String>::new(), "a two-valued enum says what a literal means");
}

/// A source without what stands in its strings.
fn without_texts(code: &str) -> String {
    let (mut kept, mut rest) = (String::new(), code);
    while let Some(at) = rest.find('"') {
        let (before, text) = rest.split_at(at);
        let hashes = before.len() - before.trim_end_matches('#').len();
        let is_raw = before[..before.len() - hashes].ends_with('r');
        let is_quote = before.ends_with("b'") || before.ends_with('\'') || before.ends_with("'\\");
        kept += before;
        let body = &text[1..];
        let end = match () {
            () if is_quote => 0,
            () if is_raw => body.find(&format!("\"{}", "#".repeat(hashes))).map_or(body.len(), |end| end + 1),
            () => {
                let mut is_escaped = false;
                let is_end = |letter| {
                    let ends = letter == '"' && !is_escaped;
                    is_escaped = letter == '\\' && !is_escaped;
                    ends
                };
                body.find(is_end).map_or(body.len(), |end| end + 1)
            }
        };
        rest = &body[end..];
    }
    kept + rest
}

/// The name of the function whose definition `text` begins in, and what follows its opening parenthesis.
fn function(text: &str) -> Option<(String, &str)> {
    let name = first_word(text)?;
    let mut depth = 0;
    let rest = &text[name.len()..];
    let mut before = ' ';
    let opening = rest.find(|letter| {
        depth += i32::from(letter == '<') - i32::from(letter == '>' && before != '-');
        before = letter;
        letter == '(' && depth == 0
    })?;
    (opening == 0 || rest.starts_with('<')).then(|| (name, &rest[opening + 1..]))
}

fn last_word(text: &str) -> &str {
    let is_other = |letter: char| !letter.is_alphanumeric() && letter != '_';
    text.rsplit(is_other).next().unwrap_or_default()
}

/// The arguments of a call, or the parameters of a function, whose opening parenthesis stands before `text`.
fn arguments(text: &str) -> Vec<String> {
    let (mut depth, mut all) = (0, vec![String::new()]);
    for letter in text.chars() {
        match letter {
            ')' if depth == 0 => break,
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                all.push(String::new());
                continue;
            }
            _ => {}
        }
        all.last_mut().expect("there is one").push(letter);
    }
    all.iter().map(|argument| argument.trim().to_owned()).collect()
}

/// What the pages say in code spans that look like files or names of the source.
#[test]
fn names_in_the_architecture_page_exist() {
    let page = fs::read_to_string(root().join("docs/ARCHITECTURE.md")).expect("the page is there");
    let sources: String = files().into_iter().map(|(_, text)| text).collect();
    let mut missing = Vec::new();
    for span in page.split('`').skip(1).step_by(2) {
        let is_path = span.contains('/')
            && span.chars().all(|letter| letter.is_alphanumeric() || "/_.-".contains(letter));
        let is_name = span.contains("::")
            && span.chars().all(|letter| letter.is_alphanumeric() || "_:".contains(letter));
        let homes = ["", "core/src/", "server/src/", "loadgen/src/", "core/"];
        let exists = |path: &str| homes.iter().any(|home| root().join(home).join(path).exists());
        let is_there = match () {
            () if is_path => exists(span) || exists(&format!("{span}.rs")),
            () if is_name => sources.contains(span.rsplit("::").next().unwrap_or_default()),
            () => true,
        };
        if !is_there {
            missing.push(span);
        }
    }
    assert_eq!(missing, Vec::<&str>::new(), "names that do not exist");
}
