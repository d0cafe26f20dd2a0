//! The server's process, as tests of the binary start it.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

/// A running server, ended with the test.
pub(crate) struct Running {
    pub(crate) child: Child,
    /// Where it listens, and where its admin plane does if there is one.
    pub(crate) addresses: Vec<SocketAddr>,
    _config: tempfile::NamedTempFile,
}

/// The binary with the configuration at this path.
#[allow(dead_code, reason = "not every test starts it so")]
pub(crate) fn binary(config: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(["--config", config]).env_clear();
    command
}

impl Running {
    /// Starts the server with this configuration, by the command for its path. It announces each of
    /// `announced` in a line.
    pub(crate) fn start(config: &str, command: impl FnOnce(&str) -> Command, announced: &[&str]) -> Self {
        let file = tempfile::Builder::new().suffix(".toml").tempfile().expect("a temporary file");
        std::fs::write(file.path(), config).expect("it can be written");
        let mut child = command(file.path().to_str().expect("a plain path"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let addresses = announced.iter().map(|what| {
            let line = lines.next().expect("it says where it listens").expect("it is text");
            let address = line.strip_prefix(&format!("{what} on ")).expect("it says it so");
            address.parse().expect("it is an address")
        });
        Self { addresses: addresses.collect(), child, _config: file }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.child.kill().is_ok() {
            self.child.wait().expect("it was killed");
        }
    }
}

/// Resident memory of a process in KiB.
#[allow(dead_code, reason = "not every test weighs it")]
pub(crate) fn resident_kib(process: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("there is such a line");
    line.split_whitespace().nth(1).expect("it has a number").parse().expect("it is a number")
}
