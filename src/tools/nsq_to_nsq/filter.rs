//! Which messages pass, by the fields of their JSON, and what is left of them. Pure.

use bytes::Bytes;
use serde_json::{Map, Number, Value};

/// What the flags say of JSON.
#[derive(Debug, Clone, Default)]
pub(super) struct Filter {
    pub(super) require_field: String,
    pub(super) require_value: String,
    pub(super) whitelist: Vec<String>,
}

/// What to do with a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Publish this.
    Pass(Bytes),
    /// It is dealt with.
    Drop,
    /// It is no JSON object: say so, and drop it.
    DropBroken,
    /// A field is missing whose value is asked for: say so, and try again later.
    Requeue,
}

impl Filter {
    pub(super) fn decide(&self, body: &Bytes) -> Decision {
        if self.require_field.is_empty() && self.whitelist.is_empty() {
            return Decision::Pass(body.clone());
        }
        let object = match serde_json::from_slice(body) {
            Ok(Value::Object(object)) => object,
            // As the original reads it: an object without fields.
            Ok(Value::Null) => Map::new(),
            _ => return Decision::DropBroken,
        };
        if !self.require_field.is_empty() {
            match object.get(&self.require_field) {
                None if self.require_value.is_empty() => return Decision::Drop,
                None => return Decision::Requeue,
                Some(value) if !self.matches(value) => return Decision::Drop,
                Some(_) => {}
            }
        }
        if self.whitelist.is_empty() {
            return Decision::Pass(body.clone());
        }
        let listed = |name: &String| Some((name.clone(), whole(object.get(name)?.clone())));
        let kept: Map<String, Value> = self.whitelist.iter().filter_map(listed).collect();
        Decision::Pass(Value::Object(kept).to_string().into())
    }

    fn matches(&self, value: &Value) -> bool {
        if self.require_value.is_empty() {
            return true;
        }
        match value {
            Value::String(text) => *text == self.require_value,
            Value::Number(number) => {
                let wanted = self.require_value.parse::<f64>();
                wanted.is_ok_and(|wanted| number.as_f64() == Some(wanted))
            }
            _ => false,
        }
    }
}

/// A whole number is written as one, however it came.
fn whole(value: Value) -> Value {
    let Value::Number(number) = &value else { return value };
    let as_float = number.as_f64().filter(|float| number.is_f64() && float.fract() == 0.0);
    #[expect(clippy::cast_possible_truncation, reason = "a whole number below 2^63")]
    let as_integer = as_float.filter(|float| float.abs() < 9.2e18).map(|float| float as i64);
    as_integer.map_or(value, |integer| Value::Number(Number::from(integer)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(field: &str, value: &str, whitelist: &[&str], body: &'static str) -> Decision {
        let whitelist = whitelist.iter().map(ToString::to_string).collect();
        let filter =
            Filter { require_field: field.to_owned(), require_value: value.to_owned(), whitelist };
        filter.decide(&Bytes::from_static(body.as_bytes()))
    }

    fn pass(body: &'static str) -> Decision {
        Decision::Pass(Bytes::from_static(body.as_bytes()))
    }

    #[test]
    fn fields_decide() {
        for (field, value, body, decision) in [
            ("", "", "not json", pass("not json")),
            ("a", "", "not json", Decision::DropBroken),
            ("a", "", "[1]", Decision::DropBroken),
            ("a", "", "null", Decision::Drop),
            ("a", "", r#"{"b": 1}"#, Decision::Drop),
            ("a", "", r#"{"a": null}"#, pass(r#"{"a": null}"#)),
            ("a", "1", r#"{"b":1}"#, Decision::Requeue),
            ("a", "1", r#"{"a":1.0}"#, pass(r#"{"a":1.0}"#)),
            ("a", "1", r#"{"a":"1"}"#, pass(r#"{"a":"1"}"#)),
            ("a", "1", r#"{"a":"1.0"}"#, Decision::Drop),
            ("a", "1", r#"{"a":2}"#, Decision::Drop),
            ("a", "true", r#"{"a":true}"#, Decision::Drop),
        ] {
            assert_eq!(decide(field, value, &[], body), decision, "{field} {value} {body}");
        }
    }

    #[test]
    fn a_whitelist_keeps_what_it_lists() {
        let body = r#"{"c":{"z":1,"y":2},"a":5.0,"b":1.5,"d":[1.0]}"#;
        let kept = decide("", "", &["c", "a", "b", "x"], body);
        assert_eq!(kept, pass(r#"{"a":5,"b":1.5,"c":{"y":2,"z":1}}"#));
        assert_eq!(decide("", "", &["x"], "{}"), pass("{}"));
    }
}
