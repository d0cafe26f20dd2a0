//! The control plane: what operators look at, apart from the workers' loops.

pub(crate) mod admin;
pub(crate) mod metrics;
