//! The bounds, the sizes and the counters of a directory.

/// The bounds of a directory.
#[derive(Copy, Clone, Debug)]
pub struct DirectoryLimits {
    /// Bytes of all remembered messages and notices.
    pub bytes: usize,
    /// Bytes of one message as compact JSON, with its unknown members.
    pub message_bytes: usize,
    /// Connections that wait for their clients.
    pub waiting: usize,
    /// Users.
    pub users: usize,
    /// Channels.
    pub channels: usize,
}

impl Default for DirectoryLimits {
    fn default() -> Self {
        Self {
            bytes: 64 << 20,
            message_bytes: 64 << 10,
            waiting: 10_000,
            users: 1_000_000,
            channels: 100_000,
        }
    }
}

/// Counters of a directory.
#[derive(Copy, Clone, Default, Debug)]
pub struct DirectoryCounters {
    /// Messages of back ends.
    pub messages: u64,
    /// Connections that received these messages.
    pub deliveries: u64,
    /// Connections that expired because their clients never came or stopped polling.
    pub collected: u64,
    /// Requests that reached a bound of the directory.
    pub refused: u64,
    /// Messages and notices that the histories dropped for lack of memory.
    pub forgotten: u64,
}

/// Sizes of a directory.
#[derive(Copy, Clone, Eq, PartialEq, Default, Debug)]
pub struct DirectorySizes {
    /// Users, with or without connections.
    pub users: usize,
    /// Connections, with or without a client.
    pub connections: usize,
    /// Connections that wait for their clients.
    pub waiting: usize,
    /// Approximate bytes of all histories.
    pub bytes: usize,
}
