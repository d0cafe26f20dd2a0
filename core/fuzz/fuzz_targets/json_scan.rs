//! Any text: the JSON parser and `serde_json` agree on whether it is JSON, where its parts lie and what its
//! strings say.

#![no_main]

#[path = "../../tests/json_reference/mod.rs"]
mod json_reference;

libfuzzer_sys::fuzz_target!(|text: &str| json_reference::check(text));
