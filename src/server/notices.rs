//! What the broker wants an operator to know, in NSQ's words.

use crate::broker::action::Notice;
use crate::control::metadata::{Change, MetadataChanged};
use ringmain_storage::log::State;

/// Says that there is another topic or channel than before, if there is.
pub(super) fn mark(notice: &Notice, changed: &MetadataChanged) {
    let lasting = match notice {
        Notice::TopicCreated(topic) | Notice::TopicDeleting(topic) => !topic.is_ephemeral(),
        Notice::ChannelCreated(topic, channel) => !topic.is_ephemeral() && !channel.is_ephemeral(),
        Notice::ChannelDeleting(channel) => !channel.is_ephemeral(),
        Notice::LogState(..)
        | Notice::LogReport(..)
        | Notice::LogLost { .. }
        | Notice::DeadLettersRefused { .. }
        | Notice::ClientError { .. } => return,
    };
    changed.note(if lasting { Change::Lasting } else { Change::Ephemeral });
}

/// In development builds a topic of the name in this variable breaks an invariant, so that a test
/// sees what becomes of the daemon.
const PANIC_AT_TOPIC: &str = "RINGMAIN_PANIC_AT_TOPIC";

/// Writes a notice to the log.
pub(super) fn log(notice: &Notice) {
    match notice {
        Notice::TopicCreated(topic) => {
            tracing::info!("TOPIC({topic}): created");
            if cfg!(debug_assertions)
                && std::env::var(PANIC_AT_TOPIC).is_ok_and(|t| t == topic.as_str())
            {
                panic!("{PANIC_AT_TOPIC} is {topic}");
            }
        }
        Notice::TopicDeleting(topic) => tracing::info!("TOPIC({topic}): deleting"),
        Notice::ChannelCreated(topic, channel) => {
            tracing::info!("TOPIC({topic}): new channel({channel})");
        }
        Notice::ChannelDeleting(channel) => tracing::info!("CHANNEL({channel}): deleting"),
        Notice::LogState(topic, State::Healthy) => {
            tracing::info!("TOPIC({topic}): its log takes messages again");
        }
        Notice::LogState(topic, State::Blocked(error)) => tracing::error!(
            "TOPIC({topic}): cannot write to its log - {error}; publishes that need it are refused \
             until it can grow, consumers go on"
        ),
        Notice::LogState(topic, State::Failed(error)) => tracing::error!(
            "TOPIC({topic}): its log has failed and takes nothing more - {error}; check the disk, \
             then restart nsqd, consumers go on until then"
        ),
        Notice::LogReport(topic, report) => tracing::error!("TOPIC({topic}): {report}"),
        Notice::LogLost { topic, channel, count } => tracing::error!(
            "TOPIC({topic}): {count} messages for channel {channel} cannot be read from the log"
        ),
        Notice::DeadLettersRefused { channel, to, refusal } => tracing::error!(
            "CHANNEL({channel}): topic {to} does not take its dead letters - {}; it keeps them and \
             tries again",
            refusal.reason()
        ),
        Notice::ClientError { remote_address, error } => {
            tracing::error!("[{remote_address}] - {error}");
            if error.is_fatal() {
                tracing::error!("client({remote_address}) - {error}");
            }
        }
    }
}
