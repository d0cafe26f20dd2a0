//! Puts the commit into the program, so that a report says which one measured: that of a package, or that of
//! the repository which the crate is a part of. Without either there is none.

use std::{fs, process::Command};

/// What `cargo package` writes into a package.
const PACKAGED: &str = ".cargo_vcs_info.json";
/// Letters of a commit that are shown.
const SHOWN: usize = 12;

fn main() {
    println!("cargo:rerun-if-changed={PACKAGED}");
    let commit = packaged_commit().or_else(repository_commit).unwrap_or_else(|| "unknown".into());
    println!("cargo:rustc-env=FANFARE_COMMIT={commit}");
}

fn packaged_commit() -> Option<String> {
    let info = fs::read_to_string(PACKAGED).ok()?;
    let (_, rest) = info.split_once("\"sha1\"")?;
    rest.split('"').nth(1)?.get(..SHOWN).map(str::to_owned)
}

fn repository_commit() -> Option<String> {
    // A crate that somebody unpacked inside another repository is no part of that.
    git(&["ls-files", "--error-unmatch", "Cargo.toml"])?;
    for name in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", name]) {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", &format!("--short={SHOWN}"), "HEAD"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output =
        Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
