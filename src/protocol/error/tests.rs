//! Texts that the decoder does not produce itself; its own are in `decoder/tests.rs`.

use super::*;

fn check(error: ProtocolError, text: &str) {
    assert_eq!(error.to_string(), text);
    assert!(text.starts_with(error.code()));
}

#[test]
fn outcomes_have_nsqs_texts() {
    use ProtocolError::*;
    let id = MessageId(*b"0123456789abcdef");
    check(SubFailed(EXITING.into()), "E_SUB_FAILED SUB failed exiting");
    for (kind, text) in [
        (PublishKind::Pub, "E_PUB_FAILED PUB failed exiting"),
        (PublishKind::Dpub, "E_DPUB_FAILED DPUB failed exiting"),
        (PublishKind::Mpub, "E_MPUB_FAILED MPUB failed exiting"),
    ] {
        check(PublishFailed { kind, reason: EXITING.into() }, text);
    }
    check(
        FinFailed { id, reason: NOT_IN_FLIGHT.into() },
        "E_FIN_FAILED FIN 0123456789abcdef failed ID not in flight",
    );
    check(
        ReqFailed { id, reason: NOT_OWNER.into() },
        "E_REQ_FAILED REQ 0123456789abcdef failed client does not own message",
    );
    check(
        TouchFailed { id, reason: NOT_IN_FLIGHT.into() },
        "E_TOUCH_FAILED TOUCH 0123456789abcdef failed ID not in flight",
    );
}

#[test]
fn negotiation_and_auth_have_nsqs_texts() {
    use ProtocolError::*;
    check(TlsRequired((*b"NOP").into()), "E_INVALID cannot NOP in current state (TLS required)");
    check(IdentifyUndecodable, "E_BAD_BODY IDENTIFY failed to decode JSON body");
    check(IdentifyConflict, "E_IDENTIFY_FAILED cannot enable both deflate and snappy compression");
    check(IdentifyFailed("EOF".into()), "E_IDENTIFY_FAILED IDENTIFY failed EOF");
    check(AuthAlreadySet, "E_INVALID AUTH already set");
    check(AuthDisabled, "E_AUTH_DISABLED AUTH disabled");
    check(AuthFailed, "E_AUTH_FAILED AUTH failed");
    check(AuthError("EOF".into()), "E_AUTH_ERROR AUTH error EOF");
    check(AuthEmpty, "E_UNAUTHORIZED AUTH no authorizations found");
    check(AuthFirst(CommandName::Mpub), "E_AUTH_FIRST AUTH required before MPUB");
    check(
        Unauthorized { command: CommandName::Pub, topic: (*b"t").into(), channel: Box::default() },
        r#"E_UNAUTHORIZED AUTH failed for PUB on "t" """#,
    );
}

#[test]
fn only_failures_of_single_messages_leave_the_connection_open() {
    let id = MessageId(*b"0123456789abcdef");
    let reason = || Reason::from(NOT_IN_FLIGHT);
    assert!(!ProtocolError::FinFailed { id, reason: reason() }.is_fatal());
    assert!(!ProtocolError::ReqFailed { id, reason: reason() }.is_fatal());
    assert!(!ProtocolError::TouchFailed { id, reason: reason() }.is_fatal());
    assert!(ProtocolError::BadProtocol.is_fatal());
    assert!(ProtocolError::LineTooLong.is_fatal());
    let failed = ProtocolError::PublishFailed { kind: PublishKind::Pub, reason: reason() };
    assert!(failed.is_fatal());
}

#[test]
fn a_line_too_long_has_no_frame() {
    let mut text = Vec::new();
    ProtocolError::LineTooLong.push_text(&mut text);
    assert!(text.is_empty() && !ProtocolError::LineTooLong.has_frame());
}

#[test]
fn what_the_client_sent_comes_back_byte_for_byte() {
    let mut text = Vec::new();
    ProtocolError::UnknownCommand((*b"\xff\x00").into()).push_text(&mut text);
    assert_eq!(text, b"E_INVALID invalid command \xff\x00");
}
