//! Pages of members, users and sessions.

use core::net::IpAddr;
use std::sync::Arc;

use super::Cursor;
use crate::{id::SessionId, publication::IdentityCard};

/// A page of members.
#[derive(Debug)]
pub struct MembersPage {
    /// The channel.
    pub channel: Box<str>,
    /// Members in all.
    pub total: usize,
    /// This page.
    pub members: Vec<IdentityCard>,
    /// The addresses of these members, for a back end that may see them.
    pub addresses: Option<Vec<Option<IpAddr>>>,
    /// Where the next one begins; `None` at the end.
    pub next: Option<Cursor>,
}

/// The members of a channel that keeps a roster.
#[derive(Debug)]
pub struct Roster {
    /// The channel.
    pub channel: Box<str>,
    /// The number of all members, which may exceed the length of the list.
    pub total: usize,
    /// The members.
    pub members: Vec<Arc<IdentityCard>>,
}

/// A page of a channel's users.
#[derive(Debug)]
pub struct UsersPage {
    /// The channel.
    pub channel: Box<str>,
    /// Users in all.
    pub total: usize,
    /// This page: users, and how many sessions of each are members.
    pub users: Vec<(Box<str>, u32)>,
    /// The user after which the next page begins; `None` at the end.
    pub next: Option<Box<str>>,
}

impl UsersPage {
    /// Takes over what was read.
    pub fn fill(&mut self, users: Vec<(Box<str>, u32)>, total: usize, more: bool) {
        self.next = users.last().filter(|_| more).map(|(user, _)| user.clone());
        self.users = users;
        self.total = total;
    }
}

/// A page of a user's sessions, or of all sessions of the app.
#[derive(Debug)]
pub struct SessionsPage {
    /// The user; `None` for sessions of all users.
    pub user: Option<Box<str>>,
    /// This page.
    pub sessions: Vec<UserSession>,
    /// Where the next one begins; `None` at the end.
    pub next: Option<Cursor>,
}

/// A session, as its app's back end sees it.
#[derive(Debug)]
pub struct UserSession {
    /// The session.
    pub id: SessionId,
    /// The user of the session, on a page of all sessions.
    pub user: Option<Arc<str>>,
    /// Its profile, JSON as it was sent; `None` until it was set.
    pub profile: Option<Arc<str>>,
    /// The channels it is in.
    pub channels: Vec<Box<str>>,
    /// The address of its client, if back ends may see it.
    pub address: Option<IpAddr>,
}
