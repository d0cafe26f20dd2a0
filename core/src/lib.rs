//! Fanfare's pure core.

pub mod http;
pub mod json;
pub mod ws;
