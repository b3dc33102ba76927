//! `nsq_tail`: prints the messages of topics.
//!
//! With `-n` every printed message is finished before the program ends; the original leaves the
//! last one to time out.

use super::flags::{Sources, count};
use super::run::{Failure, StopSignals, run};
use crate::client::{Consumer, Message};
use crate::options::value::boolean;
use crate::options::{Exit, read_flags, refuse, version_of};
use clap::ArgAction::Set;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

#[derive(Debug, Clone, clap::Parser)]
#[command(name = "nsq_tail", args_override_self = true)]
#[command(disable_help_flag = true, disable_version_flag = true)]
struct Flags {
    /// channel to use (default: an ephemeral one of its own)
    #[arg(long, default_value = "")]
    channel: String,
    /// most messages in flight at a time
    #[arg(long, default_value = "200", value_parser = count)]
    max_in_flight: u32,
    /// messages to print of a topic before ending; 0 for no end
    #[arg(long, default_value = "0", value_parser = count)]
    n: u32,
    /// print the topic before each message
    #[arg(long, action = Set, default_value = "false", value_parser = boolean)]
    print_topic: bool,
    /// topic to print (repeatable)
    #[arg(long)]
    topic: Vec<String>,
    /// print the version and exit
    #[arg(long, action = Set, default_value = "false", value_parser = boolean)]
    version: bool,
    #[command(flatten)]
    sources: Sources,
}

/// Messages of one topic, on their way to standard output.
struct Batch {
    /// Index of the topic.
    topic: usize,
    messages: Vec<Message>,
}

/// Runs the utility with the arguments that follow its name.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    run(read_flags(arguments).and_then(check), tail)
}

fn check(mut flags: Flags) -> Result<Flags, Exit> {
    if flags.version {
        return Err(version_of("nsq_tail"));
    }
    if flags.channel.is_empty() {
        flags.channel = format!("tail{:06}#ephemeral", fastrand::u32(..999_999));
    }
    flags.sources.check("")?;
    if flags.topic.is_empty() {
        return Err(refuse("--topic required"));
    }
    // More than are to be printed would have to go back.
    if flags.n > 0 {
        flags.max_in_flight = flags.max_in_flight.min(flags.n);
    }
    Ok(flags)
}

async fn tail(flags: Flags) -> Result<(), Failure> {
    let mut signals = StopSignals::watch()?;
    let config = flags.sources.config("nsq_tail", flags.max_in_flight)?;
    let mut controls = Vec::new();
    let mut readers = JoinSet::new();
    let (batches, to_print) = mpsc::channel(1);
    for (at, topic) in flags.topic.iter().enumerate() {
        tracing::info!("Adding consumer for topic: {topic}");
        let consumer = flags.sources.consumer(topic, &flags.channel, config.clone());
        let consumer = consumer.connect().await?;
        controls.push(consumer.control());
        readers.spawn(read(at, consumer, batches.clone()));
    }
    drop(batches);
    let mut printed = print(to_print, flags);
    tokio::select! {
        () = signals.next() => {}
        outcome = &mut printed => outcome??,
    }
    // What is in hand goes back, what was answered is told.
    for control in &controls {
        control.stop();
    }
    while readers.join_next().await.is_some() {}
    Ok(())
}

async fn read(topic: usize, mut consumer: Consumer, batches: mpsc::Sender<Batch>) {
    while let Some(messages) = consumer.next_batch().await {
        let sent = batches.send(Batch { topic, messages }).await;
        if let Err(mpsc::error::SendError(batch)) = sent {
            send_back(batch.messages);
        }
    }
}

/// Messages that are not wanted any more are for others, at once.
fn send_back(messages: Vec<Message>) {
    for message in messages {
        message.requeue_without_backoff(Some(Duration::ZERO));
    }
}

/// Prints on a thread of its own: a terminal that is held up holds up nothing else.
fn print(
    mut batches: mpsc::Receiver<Batch>,
    flags: Flags,
) -> oneshot::Receiver<Result<(), String>> {
    let (tell, outcome) = oneshot::channel();
    std::thread::spawn(move || {
        let mut left = vec![if flags.n == 0 { u32::MAX } else { flags.n }; flags.topic.len()];
        let mut text = Vec::new();
        while let Some(Batch { topic, messages }) = batches.blocking_recv() {
            let wanted = left[topic].min(u32::try_from(messages.len()).unwrap_or(u32::MAX));
            text.clear();
            let mut shown = messages;
            send_back(shown.split_off(wanted as usize));
            for message in &shown {
                if flags.print_topic {
                    text.extend_from_slice(flags.topic[topic].as_bytes());
                    text.extend_from_slice(b" | ");
                }
                text.extend_from_slice(message.body());
                text.push(b'\n');
            }
            let mut output = io::stdout().lock();
            if let Err(error) = output.write_all(&text).and_then(|()| output.flush()) {
                let text = format!("ERROR: failed to write to os.Stdout - {error}");
                let _ = tell.send(Err(text));
                return;
            }
            for message in shown {
                message.finish();
            }
            if flags.n > 0 {
                left[topic] -= wanted;
            }
            if left[topic] == 0 {
                break;
            }
        }
        let _ = tell.send(Ok(()));
    });
    outcome
}
