//! The pages. Every one is whole without a script: the module in `assets/` only keeps its numbers
//! up to date, sorts without a reload, and carries actions out.

mod channel;
mod counter;
mod frame;
mod graphs;
mod list;
mod lookup;
mod node;
mod nodes;
mod parts;
mod topic;
mod topics;

pub(super) use channel::page as channel;
pub(super) use counter::page as counter;
pub(super) use lookup::page as lookup;
pub(super) use node::page as node;
pub(super) use nodes::page as nodes;
pub(super) use topic::page as topic;
pub(super) use topics::page as topics;

use super::live::Picture;
use super::state::Admin;
use crate::client::http::escape;
use crate::limits::ADMIN_PICTURE_AGE_MAX;
use std::sync::Arc;
use tokio::time::Instant;

/// The cluster as of a moment ago, and in any case as it is since the last change made here.
pub(super) async fn picture(admin: &Admin) -> Arc<Picture> {
    let now = Instant::now();
    let recent = now.checked_sub(ADMIN_PICTURE_AGE_MAX).unwrap_or(now);
    let changed = *admin.changed.borrow();
    admin.live.look(recent.max(changed)).await
}

/// The paths of pages and of the API, with names made fit for them.
impl Admin {
    fn topic_path(&self, topic: &str) -> String {
        self.path(&format!("/topics/{}", segment(topic)))
    }

    fn channel_path(&self, topic: &str, channel: &str) -> String {
        self.path(&format!("/topics/{}/{}", segment(topic), segment(channel)))
    }

    fn node_path(&self, node: &str) -> String {
        self.path(&format!("/nodes/{}", segment(node)))
    }
}

/// A name as one segment of a path.
fn segment(name: &str) -> String {
    escape(name.as_bytes(), "%20")
}
