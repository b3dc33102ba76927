//! Mail from other shards: each kind is one call.

use super::action::{Action, Notice};
use super::admin::{ShardIndex, TopicId};
use super::mail::{Mail, PublishAnswer};
use super::placement::Asker;
use super::session::{Input, SessionKey};
use super::shard::Shard;
use super::time::Now;

impl Shard {
    /// Acts on one mail.
    pub fn receive(&mut self, now: Now, from: ShardIndex, mail: Mail) {
        match mail {
            Mail::Publish(batch) => self.put_batch(now, from, *batch),
            Mail::Answers(answers) => self.resolve_answers(answers),
            Mail::Resolve { name } => self.place_topic(now, name, Asker::Shard(from)),
            Mail::Known { id, name, home } => {
                // A home has learned it with `Create`, and may have ended it since.
                if home != self.config.index {
                    self.registry.learn(id, name, home);
                }
                self.place_known(now, name);
            }
            Mail::Unplaced { name } => self.place_refused(name),
            Mail::Create { id, name } => {
                self.create_topic(now, id, name);
                self.outboxes[usize::from(from)].push(Mail::Created { id });
                self.place_known(now, name);
            }
            Mail::Created { id } => self.topic_created(now, id),
            Mail::Forget { id } => {
                self.registry.forget(id, false);
                self.outboxes[usize::from(from)].push(Mail::Forgotten { id });
            }
            Mail::Forgotten { id } => self.topic_forgotten(now, id),
            Mail::Delete { id } => {
                self.drop_topic(id);
                self.registry.forget(id, false);
                if !self.is_removing(id) {
                    self.outboxes[usize::from(from)].push(Mail::Deleted { id });
                }
            }
            Mail::Deleted { id } => self.topic_deleted(now, id),
            Mail::Ended { id } => self.topic_ended(now, id),
        }
    }

    /// An ephemeral topic of this shard has lost its last channel.
    pub(super) fn end_topic(&mut self, id: TopicId) {
        self.drop_topic(id);
        if self.config.index == super::admin::REGISTRAR {
            // The rest follows at the end of the turn: this may be deep within another event.
            if self.note_end(id) {
                self.ended_here.push(id);
            }
        } else {
            self.registry.forget(id, false);
            self.outboxes[usize::from(super::admin::REGISTRAR)].push(Mail::Ended { id });
        }
    }

    fn resolve_answers(&mut self, answers: Vec<PublishAnswer>) {
        for answer in answers {
            self.resolve_answer(answer);
        }
    }

    /// A publish of a session has ended.
    pub(super) fn resolve_answer(&mut self, answer: PublishAnswer) {
        if answer.session == SessionKey::DEAD_LETTERS {
            return self.dead_letter_answered(&answer);
        }
        let PublishAnswer { session: key, ticket, outcome } = answer;
        let Some(session) = self.session_mut(key) else { return };
        let was_full = !session.may_read();
        let error = session.resolve(ticket, outcome);
        let resumes = was_full && session.may_read();
        let closed = session.input == Input::Closed;
        let remote_address = error.is_some().then(|| session.remote_address.clone());
        self.mark_dirty(key.index);
        self.ask_for_upgrade(key.index);
        if let (Some(error), Some(remote_address)) = (error, remote_address) {
            let notice = Notice::ClientError { remote_address, error };
            self.actions.push(Action::Notice(notice));
        }
        if closed {
            self.unsubscribe(key.index);
        }
        if resumes {
            self.actions.push(Action::Resume(key));
        }
    }
}
