//! Criterion benches of Fanfare; see `benches/`.
