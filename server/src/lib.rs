//! Fanfare's server: everything that touches the operating system.

pub mod args;
pub mod config;
