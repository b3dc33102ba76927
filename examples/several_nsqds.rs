//! Publishes a batch to whichever of several nsqds can be reached, within a second:
//! `cargo run --example several_nsqds -- orders 127.0.0.1:4150 127.0.0.1:5150`

use ringmain::client::{Error, Producer};
use std::time::Duration;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let topic = arguments.next().unwrap_or_else(|| "orders".to_owned());
    let nsqds: Vec<_> = arguments.collect();

    // What one nsqd refuses or leaves without an answer is sent to the next. After a lost answer
    // the batch may be stored twice; with one attempt it would be an error instead.
    let producer = Producer::new().attempts(3);
    let producer = nsqds.iter().fold(producer, |producer, nsqd| producer.nsqd(nsqd)).start()?;

    let batch = producer.publish_batch(&topic, ["first", "second", "third"]);
    let published = tokio::time::timeout(Duration::from_secs(1), batch).await;
    published.unwrap_or(Err(Error::DeadlinePassed))?;
    producer.stop().await;
    Ok(())
}
