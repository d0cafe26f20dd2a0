//! What somebody sees who watches a channel from outside.

/// Samples of what was published to a channel.
#[derive(Debug)]
pub struct Watched {
    /// The samples, in order.
    pub samples: Vec<Sample>,
    /// The number of the last sample there was.
    pub next: u64,
    /// The last offset that the channel gave out.
    pub offset: u64,
}

/// A publication that was sampled.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Its number among the samples.
    pub number: u64,
    /// Its frame, as a session of the native dialect receives it that takes text alone; `None`: it is too
    /// long.
    pub frame: Option<Box<[u8]>>,
}
