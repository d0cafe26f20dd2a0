//! Fanfare's pure core.

pub mod app;
pub mod http;
pub mod json;
pub mod token;
pub mod ws;
