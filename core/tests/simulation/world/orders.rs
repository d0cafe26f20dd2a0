//! Orders that are held from outside for some steps.

use std::sync::Arc;

use fanfare_core::{
    channel::{Channel, ChannelState, Entered, Operation},
    id::AppId,
};

use super::World;

/// An order that the test is inside of.
pub(super) struct Held {
    channel: &'static Arc<Channel>,
    entered: Entered<'static, ChannelState, Operation>,
    worker: usize,
}

impl World {
    pub(super) fn toggle_hold(&mut self) {
        if !self.held.is_empty() && self.random.chance(60) {
            let at = self.random.below(self.held.len());
            let held = self.held.swap_remove(at);
            self.engines[held.worker].leave_lock(held.channel, held.entered);
            return;
        }
        let app = AppId(self.random.below(self.rules.len()) as u16);
        let name = format!("c{}", self.random.below(self.channels));
        let name = self.random.chance(85).then_some(&*name);
        let Some(channel) = self.node.channel(app, name) else { return };
        // Leaked, so that being inside may outlive this step.
        let channel: &'static Arc<Channel> = Box::leak(Box::new(channel));
        if let Some(entered) = channel.lock.try_enter() {
            let worker = self.random.below(self.engines.len());
            self.held.push(Held { channel, entered, worker });
        }
    }

    /// Leaves the orders that are held.
    pub(crate) fn release(&mut self) {
        while let Some(held) = self.held.pop() {
            self.engines[held.worker].leave_lock(held.channel, held.entered);
        }
    }
}
