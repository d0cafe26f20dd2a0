//! Puts the commit into a release build, for `--version`. The variable `FANFARE_COMMIT` goes before the
//! repository. Other builds have no commit, because each commit would make them compile the server again.

use std::{env, process::Command};

fn main() {
    println!("cargo:rerun-if-env-changed=FANFARE_COMMIT");
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    if !is_release || env::var_os("FANFARE_COMMIT").is_some_and(|commit| !commit.is_empty()) {
        return;
    }
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
        Some(String::from(text.trim()))
    };
    for name in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", name]) {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    if let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) {
        println!("cargo:rustc-env=FANFARE_COMMIT={commit}");
    }
}
