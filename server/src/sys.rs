//! The operating system's odds and ends: open-files limit, entropy, clocks, dates.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use fanfare_core::secret::Secret;

/// Raises the soft limit of open files to the hard one; returns what is in force.
pub(crate) fn raise_open_files() -> u64 {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => limit,
        Err(error) => {
            tracing::warn!(%error, "could not raise the limit of open files");
            rlimit::getrlimit(rlimit::Resource::NOFILE).map_or(1024, |(soft, _)| soft)
        }
    }
}

/// Replaces a file that only its owner may read. Whatever interrupts it, the file has the old bytes or the
/// new ones.
pub(crate) fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// Has the allocator give back what this thread no longer uses. By itself it does that only while it is asked
/// for more.
#[allow(unsafe_code, reason = "the allocator's crate does not wrap this call")]
pub(crate) fn give_back_memory() {
    // A forced collection visits every page of this thread once: 0.14 ms with 7,000 sessions, debug build.
    // SAFETY: the function may be called at any time, on any thread, and takes no pointers.
    unsafe { libmimalloc_sys::mi_collect(true) };
}

/// 64 bits of the system's entropy.
pub(crate) fn random() -> u64 {
    getrandom::u64().expect("the operating system has entropy")
}

/// CPU time that this thread has used.
pub(crate) fn thread_cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let part = |value: i64| u64::try_from(value).unwrap_or_default();
    Duration::from_secs(part(time.tv_sec)) + Duration::from_nanos(part(time.tv_nsec))
}

/// The name by which the system knows a thread: `<process>/task/<thread>`, in `/proc`.
#[derive(Clone, Debug)]
pub(crate) struct ThreadName(Arc<Path>);

impl ThreadName {
    /// The name of this thread.
    pub(crate) fn of_this() -> Option<Self> {
        let link = std::fs::read_link("/proc/thread-self").ok()?;
        Some(Self(Path::new("/proc").join(link).into()))
    }

    /// CPU time that the thread has used.
    pub(crate) fn cpu_time(&self) -> Option<Duration> {
        let text = std::fs::read_to_string(self.0.join("schedstat")).ok()?;
        text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
    }

    /// Gives the thread the lowest priority.
    pub(crate) fn give_way(&self) {
        let id = self.0.file_name().and_then(|name| name.to_str()?.parse().ok());
        let id = id.and_then(rustix::process::Pid::from_raw);
        // The system takes a thread's number for a process's.
        if let Err(error) = rustix::process::setpriority_process(id, 19) {
            tracing::warn!(%error, "a thread keeps its priority");
        }
    }
}

/// 128 bits of the system's entropy.
pub(crate) fn random_bits() -> u128 {
    u128::from(random()) << 64 | u128::from(random())
}

/// A secret of the system's entropy.
pub(crate) fn secret() -> Secret {
    Secret::new(random_bits())
}

/// Wall and monotonic time, read together once per turn.
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now() }
    }

    /// Unix milliseconds.
    pub(crate) fn unix_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// Unix microseconds.
    pub(crate) fn unix_us(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }

    /// Milliseconds since this clock was made.
    pub(crate) fn elapsed_ms(&self) -> u64 {
        self.ms_at(Instant::now())
    }

    /// Milliseconds from the making of this clock to `moment`.
    pub(crate) fn ms_at(&self, moment: Instant) -> u64 {
        u64::try_from(moment.saturating_duration_since(self.start).as_millis()).unwrap_or(u64::MAX)
    }
}

/// The length of a date (RFC 9110, section 5.6.7).
const DATE_BYTES: usize = 29;

/// A second as HTTP writes it, kept as long as the second lasts.
#[derive(Copy, Clone)]
pub(crate) struct HttpDate {
    unix_s: u64,
    text: [u8; DATE_BYTES],
}

impl Default for HttpDate {
    fn default() -> Self {
        Self { unix_s: 0, text: *b"Thu, 01 Jan 1970 00:00:00 GMT" }
    }
}

impl HttpDate {
    /// Moves on to a second.
    pub(crate) fn advance(&mut self, unix_s: u64) {
        // The end of the year 9999, from where on a date has no such form.
        let unix_s = unix_s.min(253_402_300_799);
        if unix_s != self.unix_s {
            let date = httpdate::HttpDate::from(UNIX_EPOCH + Duration::from_secs(unix_s));
            write!(&mut self.text[..], "{date}").expect("a date has 29 bytes");
            self.unix_s = unix_s;
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text).expect("a date is ASCII")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_have_the_form_of_http() {
        let mut date = HttpDate::default();
        date.advance(784_111_777);
        assert_eq!(date.as_str(), "Sun, 06 Nov 1994 08:49:37 GMT");
        date.advance(u64::MAX);
        assert_eq!(date.as_str(), "Fri, 31 Dec 9999 23:59:59 GMT");
    }
}
