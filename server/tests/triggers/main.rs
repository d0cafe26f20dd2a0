//! Triggers end to end, over sockets.

mod api;
mod peer;
mod verdicts;
