//! A runtime of triggers whose verdicts a test gives by hand.

use std::{mem::take, sync::Mutex};

use fanfare_core::trigger::{TriggerCall, TriggerRuntime};

/// Keeps calls until the test decides them.
#[derive(Default)]
pub(crate) struct Desk(Mutex<Vec<TriggerCall>>);

impl TriggerRuntime for Desk {
    fn submit(&self, call: TriggerCall) {
        self.0.lock().expect("no panic").push(call);
    }
}

impl Desk {
    /// Takes the calls that wait.
    pub(crate) fn calls(&self) -> Vec<TriggerCall> {
        take(&mut self.0.lock().expect("no panic"))
    }
}
