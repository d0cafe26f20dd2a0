//! Where everything is read from: files below a root, and the kernel's clock.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The most bytes of a file that are looked at.
const FILE_BYTES_MAX: usize = 64 << 10;

/// A machine: this one, or a folder that looks like one.
#[derive(Clone, Debug)]
pub struct Machine {
    root: PathBuf,
    pub(crate) clock: ClockSync,
}

/// Whether something keeps the clock right.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum ClockSync {
    /// The kernel's clock is kept right.
    Synchronised,
    /// Nothing keeps the kernel's clock right.
    Unsynchronised,
    /// The kernel does not say.
    Unknown,
}

impl Machine {
    /// This machine.
    pub fn own() -> Self {
        Self { root: PathBuf::from("/"), clock: ClockSync::read() }
    }

    /// The files below `root`.
    pub fn at(root: &Path, clock: ClockSync) -> Self {
        Self { root: root.to_path_buf(), clock }
    }

    /// The text of a file, by its absolute path; `None` if it cannot be read.
    pub(crate) fn text(&self, path: &str) -> Option<String> {
        let bytes = fs::read(self.root.join(path.trim_start_matches('/'))).ok()?;
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(FILE_BYTES_MAX)]);
        Some(text.trim().to_owned())
    }

    /// The number that is all of a file.
    pub(crate) fn number(&self, path: &str) -> Option<u64> {
        self.text(path)?.parse().ok()
    }

    /// The numbers of a file with several.
    pub(crate) fn numbers(&self, path: &str) -> Option<Vec<u64>> {
        self.text(path)?.split_whitespace().map(|word| word.parse().ok()).collect()
    }

    pub(crate) fn exists(&self, path: &str) -> bool {
        self.root.join(path.trim_start_matches('/')).exists()
    }
}

impl ClockSync {
    /// Asks the kernel (adjtimex(2)). Changes nothing.
    #[allow(unsafe_code, reason = "no crate of this workspace wraps this call")]
    fn read() -> Self {
        // SAFETY: the structure is plain numbers, of which all zeros is the request to change nothing, and
        // the call writes into it alone.
        let state = unsafe {
            let mut request: libc::timex = std::mem::zeroed();
            libc::adjtimex(&raw mut request)
        };
        match state {
            ..0 => Self::Unknown,
            libc::TIME_ERROR => Self::Unsynchronised,
            _ => Self::Synchronised,
        }
    }
}
