//! Clients that misbehave, and the daemon's own start and stop.

#[allow(dead_code, reason = "each test program uses a part of it")]
mod support;

mod robustness {
    mod hostile;
    mod layers;
    mod lifecycle;
    mod sizes;
    mod slow;
}
