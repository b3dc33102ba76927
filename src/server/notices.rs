//! What the broker wants an operator to know, in NSQ's words.

use crate::broker::action::Notice;
use crate::control::metadata::{Change, MetadataChanged};

/// Says that there is another topic or channel than before, if there is.
pub(super) fn mark(notice: &Notice, changed: &MetadataChanged) {
    let lasting = match notice {
        Notice::TopicCreated(topic) | Notice::TopicDeleting(topic) => !topic.is_ephemeral(),
        Notice::ChannelCreated(topic, channel) => !topic.is_ephemeral() && !channel.is_ephemeral(),
        Notice::ChannelDeleting(channel) => !channel.is_ephemeral(),
        Notice::ClientError { .. } => return,
    };
    changed.note(if lasting { Change::Lasting } else { Change::Ephemeral });
}

/// Writes a notice to the log.
pub(super) fn log(notice: &Notice) {
    match notice {
        Notice::TopicCreated(topic) => tracing::info!("TOPIC({topic}): created"),
        Notice::TopicDeleting(topic) => tracing::info!("TOPIC({topic}): deleting"),
        Notice::ChannelCreated(topic, channel) => {
            tracing::info!("TOPIC({topic}): new channel({channel})");
        }
        Notice::ChannelDeleting(channel) => tracing::info!("CHANNEL({channel}): deleting"),
        Notice::ClientError { remote_address, error } => {
            tracing::error!("[{remote_address}] - {error}");
            if error.is_fatal() {
                tracing::error!("client({remote_address}) - {error}");
            }
        }
    }
}
