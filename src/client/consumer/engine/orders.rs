//! What a consumer's control asks for.

use super::{Engine, Order};
use crate::client::error::Error;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::oneshot;

impl Engine {
    pub(super) fn take_orders(&mut self, cx: &mut Context<'_>) -> bool {
        let mut busy = false;
        while let Poll::Ready(Some(order)) = self.orders.poll_recv(cx) {
            busy = true;
            match order {
                Order::Stop => self.begin_stop(),
                Order::MaxInFlight(count) => {
                    self.max_in_flight = count;
                    self.ready.set_max_in_flight(count, self.now);
                    self.push_ready_changes();
                }
                Order::Connect(address, answer) => self.connect(address, answer),
                Order::Disconnect(address, answer) => {
                    let outcome = self.disconnect(&address);
                    let _ = answer.send(outcome);
                }
                Order::AddLookup(service, answer) => {
                    let address = Arc::clone(&service.address);
                    let added = self.discovery.add(service, self.now);
                    let known = Err(Error::AlreadyConnected(address));
                    let _ = answer.send(added.and_then(|new| if new { Ok(()) } else { known }));
                }
                Order::RemoveLookup(address, answer) => {
                    let _ = answer.send(self.discovery.remove(&address));
                }
            }
        }
        busy
    }

    fn connect(&mut self, address: Arc<str>, answer: oneshot::Sender<Result<(), Error>>) {
        if self.stopping.is_some() {
            let _ = answer.send(Err(Error::Stopped));
        } else if self.roster.name(&address) {
            self.dial_answers.insert(Arc::clone(&address), answer);
            self.dial(address);
        } else {
            let _ = answer.send(Err(Error::AlreadyConnected(address)));
        }
    }

    fn disconnect(&mut self, address: &Arc<str>) -> Result<(), Error> {
        if !self.roster.forget(address) {
            return Err(Error::UnknownAddress(Arc::clone(address)));
        }
        for slot in &mut self.slots {
            if let Some(connection) = &mut slot.connection
                && connection.is_to(address)
            {
                connection.begin_close();
            }
        }
        Ok(())
    }
}
