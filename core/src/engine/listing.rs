//! Listings of an app's channels. A listing asks no other worker, because all workers share the table.

use super::Engine;
use crate::{
    command::ChannelsPage,
    error::ReplyError,
    id::AppId,
    limits::{CHANNELS_LOOKED_AT, TABLE_SHARDS},
};

impl Engine {
    /// A page of an app's channels whose names begin with `prefix`, from `after` on. Not sorted; it may be
    /// short, and looks at a bounded number of channels: those of whole shards until [`CHANNELS_LOOKED_AT`]
    /// have been seen.
    pub(super) fn channels_of(
        &self,
        app: AppId,
        prefix: &str,
        limit: usize,
        after: Option<&str>,
    ) -> Result<ChannelsPage, ReplyError> {
        let (mut shard, mut after) = match after {
            None => (0, None),
            Some(cursor) => parse_channels_cursor(cursor).ok_or(ReplyError::InvalidCursor)?,
        };
        let mut page = ChannelsPage { channels: Vec::new(), next: None };
        let configured = usize::from(self.node.configured(app) > 0);
        let mut seen = 0;
        while shard < TABLE_SHARDS {
            let mut found = Vec::new();
            self.node.table.visit_shard(shard, |channel| {
                seen += 1;
                let name = channel.name().unwrap_or_default();
                if channel.app() == app && name.starts_with(prefix) && after.is_none_or(|after| name > after)
                {
                    found.push((Box::from(name), channel.members()));
                }
            });
            found.sort_unstable();
            let room = limit - page.channels.len();
            let cut = found.len() > room;
            found.truncate(room);
            page.channels.extend(found);
            if cut {
                let last = &page.channels.last().expect("a limit is at least one").0;
                page.next = Some(format!("{shard}.{last}"));
                return Ok(page);
            }
            shard += 1;
            after = None;
            if shard < TABLE_SHARDS + configured
                && (seen >= CHANNELS_LOOKED_AT || page.channels.len() == limit)
            {
                page.next = Some(format!("{shard}."));
                return Ok(page);
            }
        }
        if configured > 0 {
            self.list_configured(app, prefix, limit, after, &mut page);
        }
        Ok(page)
    }

    /// Fills the last page with channels that exist only because their options were set. They follow the
    /// table's channels like one more shard.
    fn list_configured(
        &self,
        app: AppId,
        prefix: &str,
        limit: usize,
        after: Option<&str>,
        page: &mut ChannelsPage,
    ) {
        let room = limit - page.channels.len();
        let mut names = self.node.configured_names(app, prefix, after, room + 1);
        let more = names.len() > room;
        names.truncate(room);
        page.next = names.last().filter(|_| more).map(|last| format!("{TABLE_SHARDS}.{last}"));
        page.channels.extend(names.into_iter().map(|name| (name, 0)));
    }
}

/// `shard.name`, where an empty name means the shard's beginning.
fn parse_channels_cursor(text: &str) -> Option<(usize, Option<&str>)> {
    let (shard, name) = text.split_once('.')?;
    if shard.is_empty() || shard.len() > 4 || !shard.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let shard = shard.parse().ok().filter(|&shard| shard <= TABLE_SHARDS)?;
    Some((shard, (!name.is_empty()).then_some(name)))
}
