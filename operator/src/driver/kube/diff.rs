//! Whether an object is as we want it: everything that we set is there. Pure.

use serde_json::Value;

/// Whether `live` holds all of `wanted`. Objects may hold more (defaults, other managers' fields); lists may not, as an
/// added element is a change; an empty list or object is as good as none; quantities are compared by value, as the API
/// server writes them in its own way.
pub fn holds(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            wanted.iter().all(|(key, wanted)| match live.get(key) {
                Some(live) => holds(live, wanted),
                None => is_empty(wanted),
            })
        }
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len()
                && live
                    .iter()
                    .zip(wanted)
                    .all(|(live, wanted)| holds(live, wanted))
        }
        (Value::String(live), Value::String(wanted)) => {
            live == wanted || quantity(live).is_some_and(|live| Some(live) == quantity(wanted))
        }
        (live, wanted) => live == wanted || (is_empty(live) && is_empty(wanted)),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.values().all(is_empty),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// A Kubernetes quantity in thousandths, exact for all that fits.
pub fn quantity(text: &str) -> Option<i128> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && !"+-.".contains(c))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let factor: i128 = match suffix {
        "" => 1000,
        "m" => 1,
        "k" => 1_000_000,
        "M" => 1_000_000_000,
        "G" => 1_000_000_000_000,
        "T" => 1_000_000_000_000_000,
        "P" => 1_000_000_000_000_000_000,
        "E" => 1_000_000_000_000_000_000_000,
        "Ki" => 1000 << 10,
        "Mi" => 1000 << 20,
        "Gi" => 1000 << 30,
        "Ti" => 1000 << 40,
        "Pi" => 1000 << 50,
        "Ei" => 1000 << 60,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    digits.checked_mul(factor).map(|value| value / scale)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_we_set_must_be_there_and_defaults_may() {
        let wanted = json!({"spec": {"replicas": 3, "args": ["a", "b"], "size": "1024Mi", "none": [], "labels": {"x": "1"}}});
        let live = json!({"status": 1, "spec": {"replicas": 3, "args": ["a", "b"], "size": "1Gi", "labels": {"x": "1", "y": "2"}, "default": true}});
        assert!(holds(&live, &wanted));
        for edit in [
            json!({"spec": {"replicas": 4}}),
            json!({"spec": {"args": ["a", "b", "c"]}}),
            json!({"spec": {"args": ["a"]}}),
            json!({"spec": {"labels": {"x": "2"}}}),
            json!({"spec": {"size": "2Gi"}}),
            json!({"spec": {"none": ["something"]}}),
        ] {
            let mut edited = live.clone();
            for (key, value) in edit["spec"].as_object().unwrap() {
                edited["spec"][key] = value.clone();
            }
            assert!(!holds(&edited, &wanted), "{edit}");
        }
        assert!(!holds(&json!({}), &wanted));
    }

    #[test]
    fn quantities_are_compared_by_value() {
        for (one, other) in [
            ("1Gi", "1024Mi"),
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1.5Gi", "1536Mi"),
            ("1k", "1000"),
        ] {
            assert_eq!(quantity(one), quantity(other), "{one} {other}");
        }
        assert_ne!(quantity("1Gi"), quantity("1G"));
        assert_eq!(quantity("10x"), None);
        assert_eq!(quantity("leave_on_terminate"), None);
        assert_eq!(quantity(""), None);
    }
}
