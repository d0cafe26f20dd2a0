//! Triggers end to end, over sockets.

mod api;
mod hostile;
mod peer;
mod recipes;
mod verdicts;
