//! The state that the workers of a server share with each other and with the control plane. The engines of
//! the workers share a [`Node`](fanfare_core::engine::Node).

use std::sync::{Arc, atomic::AtomicBool};

use crossbeam::queue::{ArrayQueue, SegQueue};
use fanfare_core::engine::Node;
use mio::Waker;

use super::{
    capacity::Capacity,
    inquiry::{INQUIRIES, Inquiry},
    session::HandedOver,
};
use crate::{
    addresses::Addresses, config::Config, control::reload::Current, http::channelstream::Places,
    trigger::manage::ManageAnswer,
};

/// The state that workers and the control plane share.
pub(crate) struct Control {
    pub(crate) wakers: Vec<Waker>,
    /// Whether the workers end.
    pub(crate) drain: AtomicBool,
    pub(crate) current: Current,
    pub(crate) capacity: Capacity,
    pub(crate) addresses: Addresses,
    /// For each worker, connections that others hand over to it.
    pub(crate) handed_over: Box<[SegQueue<HandedOver>]>,
    /// For each worker, answers to its requests about triggers.
    pub(crate) managed: Box<[SegQueue<ManageAnswer>]>,
    /// The questions of the control plane to each worker.
    pub(crate) inquiries: Box<[ArrayQueue<Inquiry>]>,
    /// The places of Channelstream's apps.
    pub(crate) places: Places,
}

impl Control {
    /// The control of workers with these wakers.
    pub(crate) fn new(wakers: Vec<Waker>, capacity: usize, config: Arc<Config>, node: &Node) -> Self {
        Self {
            drain: AtomicBool::new(false),
            capacity: Capacity::new(capacity),
            addresses: Addresses::default(),
            handed_over: wakers.iter().map(|_| SegQueue::new()).collect(),
            managed: wakers.iter().map(|_| SegQueue::new()).collect(),
            inquiries: wakers.iter().map(|_| ArrayQueue::new(INQUIRIES)).collect(),
            places: Places::new(&config.apps, node),
            current: Current::new(config),
            wakers,
        }
    }
}
