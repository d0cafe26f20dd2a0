//! Loading the configuration: the command line, the environment and the file become a configuration, or one
//! sentence that says what to change.

mod printing;
mod refusals;
mod sources;

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Parser;
use fanfare_server::args::Args;
use fanfare_server::config::{Config, ConfigError};
use tempfile::NamedTempFile;

const CLIENT: &str = "client-key-0123456789";
const SERVER: &str = "server-key-0123456789";
const SECRET: &str = "a session secret of more than 32 bytes";
const RSA_PUBLIC: &str = include_str!("../../../core/tests/keys/rs256.public.pem");

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
