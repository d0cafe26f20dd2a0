//! The answer to a watcher of a channel.

/// Samples of a channel's publications.
#[derive(Debug)]
pub struct Watched {
    /// The samples, in order.
    pub samples: Vec<Sample>,
    /// The number of the last sample.
    pub next: u64,
    /// The last offset that the channel gave out.
    pub offset: u64,
}

/// A publication that was sampled.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The sample's number.
    pub number: u64,
    /// The publication's frame, in the native dialect's text format; `None` if the frame is too long.
    pub frame: Option<Box<[u8]>>,
}
