//! A loop of its own, without clients.

use super::*;
use crate::broker::tests::world::config;
use crate::reactor::ReactorOptions;
use crate::reactor::mailbox::mesh;
use std::sync::mpsc::{RecvTimeoutError, channel, sync_channel};
use std::thread;
use tokio::sync::watch;

/// After this a shard that does not wake up is taken to sleep for ever.
const PATIENCE: Duration = Duration::from_secs(10);

fn alone(stage: &Arc<DaemonStage>) -> EventLoop {
    let shard = EventLoop::new(ShardParts {
        shard: Shard::new(config()),
        reactor: Uring::new(ReactorOptions::default()).unwrap(),
        mailboxes: mesh(1, 1).remove(0),
        control: sync_channel(1).1,
        listener: None,
        spreads: false,
        stage: Arc::clone(stage),
        metadata: MetadataChanged::default(),
        on_drained: Box::new(|| ()),
        on_closed: Box::new(|| ()),
        clock: Clock::start(),
        data_path: PathBuf::new(),
        removals: channel().0,
        health: Health::default(),
        tls: watch::channel(None).1,
        handshakes: Handshakes::none(),
        auth: None,
    });
    shard.mailboxes.connect(&shard.reactor);
    shard
}

/// The wake-up that follows a change of the stage is noted in a turn, as that of any mail: the
/// shard must not wait for another one.
#[test]
fn a_new_stage_is_not_slept_through() {
    let stage = Arc::new(DaemonStage::default());
    let mut shard = alone(&stage);
    let waker = shard.reactor.control_waker();
    stage.set(Stage::Serving);
    waker.wake();
    shard.reactor.enter(Some(PATIENCE)).unwrap();
    let idle = shard.turn();
    assert!(idle, "nothing is left to do");
    let (awake, is_awake) = channel();
    let rescue = thread::spawn(move || {
        let sleeps = is_awake.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout);
        waker.wake();
        sleeps
    });
    shard.wait_during(Stage::Loading, idle).unwrap();
    awake.send(()).unwrap_or_default();
    assert!(!rescue.join().unwrap(), "it slept");
}
