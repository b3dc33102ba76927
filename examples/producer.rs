//! Publishes the arguments as messages:
//! `cargo run --example producer -- orders first second third`

use ringmain::client::{Error, Producer};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let topic = arguments.next().unwrap_or_else(|| "orders".to_owned());

    let producer = Producer::new().nsqd("127.0.0.1:4150").start()?;
    // All are sent before the first answer is awaited.
    let mut answers = Vec::new();
    for body in arguments {
        answers.push(producer.begin(&topic, body).await?);
    }
    for answer in answers {
        answer.await?;
    }
    producer.stop().await;
    Ok(())
}
