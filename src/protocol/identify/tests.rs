//! IDENTIFY bodies as clients send them, and as nobody should.

use super::*;
use proptest::prelude::*;

const LIMITS: IdentifyLimits = IdentifyLimits {
    max_heartbeat_interval_ms: 60_000,
    min_output_buffer_timeout_ms: 25,
    max_output_buffer_timeout_ms: 30_000,
    max_output_buffer_size: 65_536,
    max_msg_timeout_ms: 900_000,
};

fn parse(body: &str) -> Result<Settings, String> {
    Settings::parse(body.as_bytes(), &LIMITS).map_err(|error| error.to_string())
}

#[track_caller]
fn check(body: &str, expected: Settings) {
    assert_eq!(parse(body), Ok(expected), "{body}");
}

#[track_caller]
fn check_error(body: &str, text: &str) {
    assert_eq!(parse(body), Err(format!("E_BAD_BODY IDENTIFY {text}")), "{body}");
}

#[test]
fn a_full_document_is_taken_over() {
    let body = r#"{"client_id":"c","hostname":"h","user_agent":"u/1","short_id":"s","long_id":1,
        "feature_negotiation":true,"heartbeat_interval":1000,"output_buffer_timeout":25,
        "output_buffer_size":64,"sample_rate":99,"msg_timeout":900000,"tls_v1":true,
        "snappy":true,"deflate":true,"deflate_level":3,"topology_region":"r",
        "topology_zone":"z","unknown":{"nested":[1,2.5,null]}}"#;
    let expected = Settings {
        client_id: "c".to_owned(),
        hostname: "h".to_owned(),
        user_agent: "u/1".to_owned(),
        feature_negotiation: true,
        heartbeat_interval_ms: Some(1000),
        output_buffer_timeout_ms: Some(25),
        output_buffer_size: Some(64),
        sample_rate: 99,
        msg_timeout_ms: Some(900_000),
        tls_v1: true,
        snappy: true,
        deflate: true,
        deflate_level: 3,
        topology_region: "r".to_owned(),
        topology_zone: "z".to_owned(),
    };
    check(body, expected);
}

#[test]
fn absent_null_and_zero_keep_what_is_in_force() {
    for body in [
        "{}",
        "null",
        " {} \n",
        r#"{"client_id":null,"tls_v1":null,"msg_timeout":null}"#,
        r#"{"heartbeat_interval":0,"output_buffer_size":0,"output_buffer_timeout":-0}"#,
    ] {
        check(body, Settings::default());
    }
}

#[test]
fn minus_one_switches_off() {
    let off = Settings { heartbeat_interval_ms: Some(0), ..Settings::default() };
    check(r#"{"heartbeat_interval":-1}"#, off);
    let off = Settings { output_buffer_timeout_ms: Some(0), ..Settings::default() };
    check(r#"{"output_buffer_timeout":-1}"#, off);
    let unbuffered = Settings {
        output_buffer_size: Some(1),
        output_buffer_timeout_ms: Some(0),
        ..Settings::default()
    };
    check(r#"{"output_buffer_size":-1,"output_buffer_timeout":100}"#, unbuffered);
}

#[test]
fn keys_match_as_in_go() {
    let named = |client_id: &str, sample_rate| Settings {
        client_id: client_id.to_owned(),
        sample_rate,
        ..Settings::default()
    };
    check(r#"{"CLIENT_id":"a","Sample_Rate":5}"#, named("a", 5));
    check(r#"{"\u0063lient_id":"a","ſample_rate":5}"#, named("a", 5));
    check(r#"{"client_id":"a","Client_ID":"b"}"#, named("b", 0));
    check(r#"{"client_id":"a","client_id":null}"#, named("a", 0));
    check(r#"{"client_id ":"a","clientid":1,"":2,"\ud800":3}"#, Settings::default());
}

#[test]
fn a_wrong_type_or_syntax_refuses_the_whole() {
    for body in [
        "",
        "{",
        "{} {}",
        "[]",
        "1",
        "true",
        r#""text""#,
        "{'client_id':1}",
        r#"{"client_id":1}"#,
        r#"{"hostname":["h"]}"#,
        r#"{"user_agent":true}"#,
        r#"{"topology_zone":{}}"#,
        r#"{"tls_v1":"true"}"#,
        r#"{"snappy":1}"#,
        r#"{"heartbeat_interval":"1000"}"#,
        r#"{"heartbeat_interval":1.5}"#,
        r#"{"heartbeat_interval":1000.0}"#,
        r#"{"heartbeat_interval":1e3}"#,
        r#"{"heartbeat_interval":9223372036854775808}"#,
        r#"{"sample_rate":2147483648}"#,
        r#"{"sample_rate":101,"msg_timeout":false}"#,
        "{\"unknown\":\"control \u{1}\"}",
        "{\"client_id\":\"control \u{1}\"}",
        r#"{"unknown":"\x"}"#,
    ] {
        check_error(body, "failed to decode JSON body");
    }
    let not_text = Settings::parse(b"{\xff}", &LIMITS);
    assert_eq!(not_text, Err(ProtocolError::IdentifyUndecodable));
}

#[test]
fn values_out_of_bounds_are_refused_in_nsqs_order() {
    for (key, name, values) in [
        ("heartbeat_interval", "heartbeat interval", [-2, 1, 999, 60_001]),
        ("output_buffer_timeout", "output buffer timeout", [-2, 1, 24, 30_001]),
        ("output_buffer_size", "output buffer size", [-2, 1, 63, 65_537]),
        ("sample_rate", "sample rate", [-2, -1, 100, 256]),
        ("msg_timeout", "msg timeout", [-2, -1, 999, 900_001]),
    ] {
        for value in values {
            let text = format!("{name} ({value}) is invalid");
            check_error(&format!(r#"{{"{key}":{value}}}"#), &text);
        }
    }
    let all_wrong = r#"{"msg_timeout":1,"sample_rate":-1,"output_buffer_size":1,
        "output_buffer_timeout":1,"heartbeat_interval":1}"#;
    let order = [
        ("heartbeat_interval", "heartbeat interval (1)"),
        ("output_buffer_timeout", "output buffer timeout (1)"),
        ("output_buffer_size", "output buffer size (1)"),
        ("sample_rate", "sample rate (-1)"),
        ("msg_timeout", "msg timeout (1)"),
    ];
    let mut body = all_wrong.to_owned();
    for (key, text) in order {
        check_error(&body, &format!("{text} is invalid"));
        body = body.replace(key, "ignored");
    }
    check(&body, Settings::default());
}

#[test]
fn texts_are_cut_at_a_characters_end() {
    let long = "é".repeat(IDENTIFY_TEXT_BYTES_MAX);
    let body = format!(r#"{{"client_id":"x{long}","hostname":"{long}"}}"#);
    let settings = parse(&body).unwrap();
    assert_eq!(settings.client_id.len(), IDENTIFY_TEXT_BYTES_MAX - 1);
    assert_eq!(settings.hostname.len(), IDENTIFY_TEXT_BYTES_MAX);
    assert!(settings.client_id.capacity() <= IDENTIFY_TEXT_BYTES_MAX);
}

#[test]
fn what_is_not_text_is_replaced() {
    let settings = Settings::parse(b"{\"client_id\":\"a\xffb\"}", &LIMITS).unwrap();
    assert_eq!(settings.client_id, "a\u{fffd}b");
    let settings = parse(r#"{"client_id":"\ud83d\ude00 \ud83d!"}"#).unwrap();
    assert!(settings.client_id.starts_with("😀 \u{fffd}"), "{}", settings.client_id);
    assert!(settings.client_id.ends_with('!'));
}

#[test]
fn the_reply_has_nsqs_keys_in_nsqs_order() {
    let reply = Reply {
        max_rdy_count: 2500,
        version: "1.3.0",
        max_msg_timeout_ms: 900_000,
        msg_timeout_ms: 60_000,
        tls_v1: false,
        deflate: true,
        deflate_level: 6,
        max_deflate_level: 7,
        snappy: false,
        sample_rate: 0,
        auth_required: false,
        output_buffer_size: 16_384,
        output_buffer_timeout_ms: 250,
        topology_region: "",
        topology_zone: "",
    };
    let golden = concat!(
        r#"{"max_rdy_count":2500,"version":"1.3.0","max_msg_timeout":900000,"#,
        r#""msg_timeout":60000,"tls_v1":false,"deflate":true,"deflate_level":6,"#,
        r#""max_deflate_level":7,"snappy":false,"sample_rate":0,"auth_required":false,"#,
        r#""output_buffer_size":16384,"output_buffer_timeout":250,"#,
        r#""topology_region":"","topology_zone":""}"#,
    );
    assert_eq!(String::from_utf8(response_json(&reply)).unwrap(), golden);
}

#[test]
fn the_deflate_level_is_the_wish_under_the_maximum() {
    for (wish, max, level) in [
        (r#"{"deflate":true,"deflate_level":3}"#, 6, 3),
        (r#"{"deflate":true,"deflate_level":7}"#, 6, 6),
        (r#"{"deflate":true,"deflate_level":9}"#, 9, 9),
        (r#"{"deflate":true,"deflate_level":99999999999}"#, 9, 9),
        (r#"{"deflate":true,"deflate_level":-1}"#, 9, 6),
        (r#"{"deflate":true}"#, 9, 6),
        // Without deflate the wish does not count, but a level is told.
        (r#"{"deflate_level":3}"#, 9, 6),
        ("{}", 2, 2),
    ] {
        assert_eq!(parse(wish).unwrap().deflate_level(max), level, "{wish}");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        let _ = Settings::parse(&bytes, &LIMITS);
    }

    #[test]
    fn integers_are_in_bounds_or_refused(value: i64, near in -2..2000i64) {
        for value in [value, near] {
            let settings = parse(&format!(r#"{{"msg_timeout":{value}}}"#));
            match settings {
                Ok(settings) if value == 0 => prop_assert_eq!(settings.msg_timeout_ms, None),
                Ok(settings) => {
                    prop_assert!((1000..=900_000).contains(&value));
                    prop_assert_eq!(settings.msg_timeout_ms, u64::try_from(value).ok());
                }
                Err(_) => prop_assert!(!(1000..=900_000).contains(&value) && value != 0),
            }
        }
    }
}
