//! Where the logs of topics lie in the data path, and what becomes of those of deleted topics.

use crate::broker::action::LogKey;
use crate::broker::admin::ShardIndex;
use crate::protocol::name::TopicName;
use std::path::{Path, PathBuf};

/// What a log's directory is called after its topic.
const LOG_SUFFIX: &str = ".log";

/// The same once the topic is deleted: what is in it may be removed at any time.
pub const DELETED_SUFFIX: &str = ".deleted";

/// The directory of a topic's log.
pub fn log_directory(data_path: &Path, topic: &TopicName) -> PathBuf {
    data_path.join(format!("{topic}{LOG_SUFFIX}"))
}

/// The topic whose log is in a directory of that name.
pub fn topic_of_log(directory: &str) -> Option<TopicName> {
    let name = directory.strip_suffix(LOG_SUFFIX)?;
    TopicName::parse(name.as_bytes()).ok().filter(|name| !name.is_ephemeral())
}

/// A log to be removed, and who waits for that.
#[derive(Debug)]
pub struct Removal {
    /// The shard that had the topic.
    pub shard: ShardIndex,
    /// The log's key there.
    pub key: LogKey,
    /// Where it lies, if it was ever written to.
    pub directory: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_name_their_topics() {
        let topic = TopicName::parse(b"a.log").unwrap();
        let directory = log_directory(Path::new("/d"), &topic);
        assert_eq!(directory, Path::new("/d/a.log.log"));
        assert_eq!(topic_of_log("a.log.log"), Some(topic));
        for other in ["nsqd.dat", ".log", "a b.log", "a#ephemeral.log", "a.log.deleted"] {
            assert_eq!(topic_of_log(other), None, "{other}");
        }
    }
}
