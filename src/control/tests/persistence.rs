//! When `nsqd.dat` is written, what is in it then, and what was in it before.

use super::*;
use crate::limits::METADATA_RETRY;
use metadata::METADATA_FILE;
use std::fs;
use std::path::PathBuf;

impl Daemon {
    fn metadata_path(&self) -> PathBuf {
        self.directory.path().join(METADATA_FILE)
    }

    fn metadata(&self) -> String {
        fs::read_to_string(self.metadata_path()).unwrap()
    }
}

fn document(topics: &str) -> String {
    format!("{{\"topics\":{topics},\"version\":\"1.3.0\"}}")
}

#[test]
fn c3_a_pause_is_in_the_file_before_it_is_answered() {
    let daemon = Daemon::start(&[]);
    assert_eq!(daemon.metadata(), document("null"), "written at start");
    daemon.post("/topic/create?topic=t", "").is("");
    daemon.post("/channel/create?topic=t&channel=c", "").is("");
    for paused in [true, false] {
        let action = if paused { "pause" } else { "unpause" };
        daemon.post(&format!("/channel/{action}?topic=t&channel=c"), "").is("");
        let channels = format!("[{{\"name\":\"c\",\"paused\":{paused}}}]");
        let topic = format!("[{{\"name\":\"t\",\"paused\":false,\"channels\":{channels}}}]");
        assert_eq!(daemon.metadata(), document(&topic));
    }
    for paused in [true, false] {
        let action = if paused { "pause" } else { "unpause" };
        daemon.post(&format!("/topic/{action}?topic=t"), "").is("");
        let topic = format!("{{\"name\":\"t\",\"paused\":{paused},\"channels\":");
        assert!(daemon.metadata().contains(&topic), "{}", daemon.metadata());
    }
}

#[test]
fn a_pause_that_cannot_be_written_is_no_success_and_is_tried_again() {
    let daemon = Daemon::start(&[]);
    daemon.post("/topic/create?topic=t", "").is("");
    // A directory cannot be replaced by a file.
    fs::remove_file(daemon.metadata_path()).unwrap();
    fs::create_dir(daemon.metadata_path()).unwrap();
    daemon.post("/topic/pause?topic=t", "").fails(500, "INTERNAL_ERROR");
    assert!(daemon.look(|model| model.topic("t").paused), "it is in force all the same");
    fs::remove_dir(daemon.metadata_path()).unwrap();
    let topic = r#"[{"name":"t","paused":true,"channels":null}]"#;
    for _ in 0..20 {
        if daemon.metadata_path().exists() {
            break;
        }
        std::thread::sleep(METADATA_RETRY);
    }
    assert_eq!(daemon.metadata(), document(topic));
}

#[test]
fn the_last_write_has_what_came_until_then() {
    let daemon = Daemon::start(&[]);
    daemon.post("/topic/create?topic=t", "").is("");
    daemon.post("/topic/create?topic=e%23ephemeral", "").is("");
    daemon.post("/channel/create?topic=t&channel=e%23ephemeral", "").is("");
    // These shards tell nobody of new topics.
    assert_eq!(daemon.metadata(), document("null"));
    let Daemon { thread, directory, .. } = daemon;
    thread.close_http();
    thread.stop();
    let text = fs::read_to_string(directory.path().join(METADATA_FILE)).unwrap();
    assert_eq!(text, document(r#"[{"name":"t","paused":false,"channels":null}]"#));
}

#[test]
fn what_was_in_the_file_is_there_before_anybody_is_answered() {
    let directory = TempDir::new().unwrap();
    let topics: Vec<_> = (0..600)
        .map(|n| {
            format!(
                r#"{{"name":"t{n:03}","paused":{},"channels":[{{"name":"c","paused":true}}]}}"#,
                n % 2 == 0
            )
        })
        .collect();
    let text = document(&format!("[{}]", topics.join(",")));
    fs::write(directory.path().join(METADATA_FILE), &text).unwrap();
    let daemon = Daemon::listen_in(directory, &["-http-address=127.0.0.1:0"]);
    daemon.look(|model| {
        assert_eq!(model.topics.len(), 600);
        assert!(model.topic("t000").paused && !model.topic("t001").paused);
        assert!(model.channel("t001", "c").paused);
    });
    assert_eq!(daemon.metadata(), text);
}

#[test]
fn a_topic_that_cannot_be_brought_back_ends_the_start() {
    let directory = TempDir::new().unwrap();
    let text = document(r#"[{"name":"t","paused":true,"channels":null}]"#);
    fs::write(directory.path().join(METADATA_FILE), &text).unwrap();
    let (gone, _) = mpsc::sync_channel(1);
    let (ready, outcome) = mpsc::channel();
    let config = ControlConfig {
        https: None,
        certificates: Certificates::read(&Options::default()).unwrap(),
        health: crate::control::health::Health::default(),
        options: options::Options::default(),
        shards: vec![ShardPort { mail: gone, wake: Arc::new(|| {}) }],
        http: None,
        tokens: None,
        tcp_port: 4150,
        auth: None,
        log_filter: None,
        free_memory: || {},
        log_file: LogFile::default(),
        dropped_lines: None,
        metadata: metadata_in(&directory),
        on_ready: Box::new(move |loaded| ready.send(loaded).unwrap()),
        on_stop: Box::new(|_| {}),
    };
    let thread = run(config).unwrap();
    let reason = outcome.recv().unwrap().unwrap_err();
    assert_eq!(
        reason,
        "failed to load metadata - topic t cannot be created: a shard does not answer"
    );
    thread.stop();
    assert_eq!(fs::read_to_string(directory.path().join(METADATA_FILE)).unwrap(), text);
}
