//! Where everybody asks. One task owns the registrations and takes one question at a time, so
//! that nobody ever sees them half changed, and no lock is needed.
//!
//! A question is a function of the registrations and the time; it answers with a value, never
//! with a reference, and does nothing that could take long.

use super::registrations::{Limits, Moment, Registrations};
use crate::limits::LOOKUPD_QUESTIONS_MAX;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// A way to ask; as many as wanted.
#[derive(Debug, Clone)]
pub(super) struct Desk(mpsc::Sender<Question>);

type Question = Box<dyn FnOnce(&mut Registrations, Moment) + Send>;

impl Desk {
    /// Starts the task that answers; it ends when nobody can ask any more.
    pub(super) fn open(limits: Limits) -> Self {
        let (sender, mut questions) = mpsc::channel::<Question>(LOOKUPD_QUESTIONS_MAX);
        tokio::spawn(async move {
            let started = Instant::now();
            let mut registrations = Registrations::new(limits);
            while let Some(question) = questions.recv().await {
                question(&mut registrations, now(started));
            }
        });
        Self(sender)
    }

    /// Asks, and waits for the answer.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Registrations, Moment) -> T + Send + 'static,
    ) -> T {
        let (reply, answer) = oneshot::channel();
        let question: Question = Box::new(move |registrations, now| {
            // Who asked may be gone; what was asked is done all the same.
            let _ = reply.send(question(registrations, now));
        });
        let sent = self.0.send(question).await;
        assert!(sent.is_ok(), "the task ends only when there is no desk left");
        answer.await.expect("a question that was sent is answered")
    }
}

fn now(started: Instant) -> Moment {
    let wall_ns = jiff::Timestamp::now().as_nanosecond();
    Moment {
        elapsed: started.elapsed(),
        wall_ns: i64::try_from(wall_ns).expect("64 bits of nanoseconds last until 2262"),
    }
}
