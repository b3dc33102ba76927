//! Prints messages until it is interrupted:
//! `cargo run --example consumer -- orders billing`

use ringmain::client::{Consumer, Error};
use std::io::Write;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let topic = arguments.next().unwrap_or_else(|| "orders".to_owned());
    let channel = arguments.next().unwrap_or_else(|| "billing".to_owned());

    let consumer = Consumer::new(&topic, &channel).nsqd("127.0.0.1:4150").max_in_flight(100);
    let mut consumer = consumer.connect().await?;

    let control = consumer.control();
    tokio::spawn(async move {
        // Without signals there is nobody who could ask for a stop.
        if tokio::signal::ctrl_c().await.is_ok() {
            control.stop();
        }
    });

    while let Some(message) = consumer.next().await {
        let printed = writeln!(std::io::stdout(), "{}", message.body().escape_ascii());
        // A message that is not finished goes back to nsqd.
        match printed {
            Ok(()) => message.finish(),
            Err(_) => message.requeue(),
        }
    }
    Ok(())
}
