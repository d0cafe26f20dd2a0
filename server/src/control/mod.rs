//! The control plane: what operators look at, apart from the workers' loops.

pub(crate) mod admin;
mod assets;
pub(crate) mod background;
mod capacity;
mod dashboard;
pub(crate) mod demo;
mod door;
pub(crate) mod exposition;
mod guard;
pub(crate) mod histogram;
pub(crate) mod memory;
pub(crate) mod metrics;
mod process;
pub(crate) mod reload;
