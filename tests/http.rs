//! The HTTP API, case by case: exact status codes, headers and bodies.

#[allow(dead_code, reason = "each test program uses a part of it")]
mod support;

mod http {
    mod admin;
    mod publish;
    mod stats;
    mod tls;
    mod tokens;
}
