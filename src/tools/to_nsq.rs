//! `to_nsq`: publishes the records of standard input to every nsqd it is given.
//!
//! Publishes are pipelined. A last record without a delimiter is published whole; the original
//! cuts its last byte off.

mod records;
mod throttle;

use self::records::Records;
use self::throttle::Throttle;
use super::flags::{apply, client_option, user_agent};
use super::progress::Progress;
use super::run::{Failure, StopSignals, run};
use crate::client::{Config, Error, Producer, Publishing};
use crate::options::value::integer;
use crate::options::{Exit, read_flags, refuse};
use bytes::Bytes;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::future::poll_fn;
use std::io::{self, Read};
use std::pin::Pin;
use std::process::ExitCode;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Bytes read from standard input at a time.
const READ_BYTES: usize = 64 * 1024;

/// Answers awaited at a time, over all nsqds: more than their windows together let in.
const ANSWERS_MAX: usize = 1 << 14;

#[derive(Debug, Clone, clap::Parser)]
#[command(name = "to_nsq", args_override_self = true)]
#[command(disable_help_flag = true, disable_version_flag = true)]
struct Flags {
    /// topic to publish to
    #[arg(long, default_value = "")]
    topic: String,
    /// the byte between records
    #[arg(long, default_value = "\n")]
    delimiter: String,
    /// address of an nsqd, host:port (repeatable); each gets every record
    #[arg(long)]
    nsqd_tcp_address: Vec<String>,
    /// setting of the producers, name,value (repeatable)
    #[arg(long, value_parser = client_option)]
    producer_opt: Vec<String>,
    /// most messages per second; 0 for as many as possible
    #[arg(long, default_value = "0", value_parser = integer::<i64>)]
    rate: i64,
}

/// Runs the utility with the arguments that follow its name.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    run(read_flags(arguments).and_then(check), publish)
}

fn check(flags: Flags) -> Result<Flags, Exit> {
    if flags.topic.is_empty() {
        return Err(refuse("--topic required"));
    }
    if flags.delimiter.len() != 1 {
        return Err(refuse("--delimiter must be a single byte"));
    }
    if flags.nsqd_tcp_address.is_empty() {
        return Err(refuse("--nsqd-tcp-address required"));
    }
    Ok(flags)
}

async fn publish(flags: Flags) -> Result<(), Failure> {
    let mut signals = StopSignals::watch()?;
    let mut config = Config { user_agent: user_agent("to_nsq"), ..Config::default() };
    apply(&mut config, &flags.producer_opt)?;
    let start = |address: &String| Producer::new().nsqd(address).config(config.clone()).start();
    let producers = flags.nsqd_tcp_address.iter().map(start).collect::<Result<Vec<_>, _>>()?;

    let mut rate = u32::try_from(flags.rate).ok().filter(|rate| *rate > 0).map(|rate| {
        tracing::info!("Throttling messages rate to max:{rate}/second");
        Throttle::new(rate)
    });
    let mut input = read_input(flags.delimiter.as_bytes()[0]);
    let mut answers = VecDeque::new();
    let mut progress = Progress::new("records published");
    let mut count = 0;
    let mut connected = false;
    loop {
        let records = tokio::select! {
            biased;
            () = signals.next() => break,
            error = first_failure(&mut answers) => return Err(error.into()),
            () = progress.due() => {
                progress.show(count);
                continue;
            }
            records = input.recv() => match records {
                None => break,
                Some(records) => records?,
            },
        };
        for record in records {
            if !connected {
                // Without this a wrong address would only show after the publishes' time limit.
                for producer in &producers {
                    producer.ping().await?;
                }
                connected = true;
            }
            if let Some(rate) = &mut rate {
                pace(rate).await;
            }
            for producer in &producers {
                answers.push_back(producer.begin(&flags.topic, record.clone()).await?);
            }
            count += 1;
            while answers.len() > ANSWERS_MAX {
                answers.pop_front().expect("there are many").await?;
            }
        }
    }
    for answer in answers {
        answer.await?;
    }
    for producer in &producers {
        producer.stop().await;
    }
    progress.end(count);
    Ok(())
}

async fn pace(rate: &mut Throttle) {
    loop {
        let now = Instant::now().into_std();
        match rate.take(now) {
            Duration::ZERO => return,
            wait => tokio::time::sleep(wait).await,
        }
    }
}

/// Takes answers as they come until one is an error; never ends otherwise.
async fn first_failure(answers: &mut VecDeque<Publishing>) -> Error {
    poll_fn(|cx| {
        while let Some(first) = answers.front_mut() {
            match Pin::new(first).poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) => drop(answers.pop_front()),
                Poll::Ready(Err(error)) => return Poll::Ready(error),
            }
        }
        Poll::Pending
    })
    .await
}

/// Reads standard input on a thread of its own; what one read brings comes as one batch.
fn read_input(delimiter: u8) -> mpsc::Receiver<io::Result<Vec<Bytes>>> {
    let (batches, taken) = mpsc::channel(4);
    std::thread::spawn(move || {
        let mut input = io::stdin().lock();
        let mut records = Records::new(delimiter);
        loop {
            let mut batch = Vec::new();
            let read = input.read(records.space(READ_BYTES));
            let at_end = match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let _ = batches.blocking_send(Err(error));
                    return;
                }
                Ok(0) => {
                    batch.extend(records.last());
                    true
                }
                Ok(bytes) => match records.split(bytes, &mut batch) {
                    Ok(()) => false,
                    Err(error) => {
                        let _ = batches.blocking_send(Err(error));
                        return;
                    }
                },
            };
            // Nobody takes them any more once the program is about to end.
            if !batch.is_empty() && batches.blocking_send(Ok(batch)).is_err() || at_end {
                return;
            }
        }
    });
    taken
}
