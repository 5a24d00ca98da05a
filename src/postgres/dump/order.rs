//! The order of rows: keys whose bytes are in the order in which the server sorts values.

use super::schema::{DumpedColumn, DumpedType, Schema};
use chronicle_archive::time::{ZoneRule, read_text};
use chronicle_archive::{Kind, Value};

/// How the values of a column are sorted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Order {
    /// As the values themselves say; texts byte by byte.
    Values,
    /// Texts that are times without a zone.
    Timestamps,
    /// Texts that are days.
    Days,
    /// Words of an enum, in the order of its definition.
    Words(Vec<String>),
}

impl Order {
    /// How the server sorts the values of a column; None if only the server knows.
    pub(super) fn of(schema: &Schema, column: &DumpedColumn) -> Option<Order> {
        match column.column.kind() {
            Kind::Int | Kind::Real | Kind::Bool | Kind::Time | Kind::Uuid => Some(Order::Values),
            Kind::Bytes | Kind::Text => Some(Order::Values),
            Kind::Date => Some(Order::Days),
            Kind::Other if column.column.type_name == "timestamp" => Some(Order::Timestamps),
            Kind::Other => match schema.type_of(&column.ty)? {
                DumpedType::Enum(words) if !column.ty.array => Some(Order::Words(words.clone())),
                _ => None,
            },
            Kind::Numeric | Kind::Json | Kind::Jsonb => None,
        }
    }

    /// Appends what sorts a value among others of its column; false if it is none of that column.
    pub(super) fn push(&self, key: &mut Vec<u8>, value: Value<'_>) -> bool {
        // NULL comes last
        key.push(u8::from(value == Value::Null));
        match (value, self) {
            (Value::Null, _) => return true,
            (Value::Int(v), _) => signed(key, v),
            (Value::Time(v), _) => signed(key, v.0),
            (Value::Bool(v), _) => key.push(u8::from(v)),
            (Value::Uuid(v), _) => key.extend_from_slice(&v),
            (Value::Real(v), _) => real(key, v),
            (Value::Blob(bytes), _) => escaped(key, bytes),
            (Value::Text(text), Order::Values) => escaped(key, text),
            (Value::Text(text), Order::Words(words)) => {
                let place = words.iter().position(|word| word.as_bytes() == text);
                let Some(place) = place.and_then(|place| i64::try_from(place).ok()) else {
                    return false;
                };
                signed(key, place);
            }
            (Value::Text(text), Order::Timestamps) => return moment(key, text),
            (Value::Text(text), Order::Days) => {
                let (day, era) = match text.strip_suffix(b" BC") {
                    Some(day) => (day, &b" BC"[..]),
                    None => (text, &b""[..]),
                };
                let is_infinite = text.ends_with(b"infinity");
                let midnight = [day, b" 00:00:00", era].concat();
                return moment(key, if is_infinite { text } else { &midnight });
            }
        }
        true
    }
}

fn moment(key: &mut Vec<u8>, text: &[u8]) -> bool {
    let moment = read_text(text, ZoneRule::Utc);
    moment.is_ok_and(|moment| {
        signed(key, moment.0);
        true
    })
}

fn signed(key: &mut Vec<u8>, value: i64) {
    key.extend_from_slice(&(value.cast_unsigned() ^ (1 << 63)).to_be_bytes());
}

fn real(key: &mut Vec<u8>, value: f64) {
    // to the server, both zeros are equal, and NaN is greater than everything
    let value = if value == 0.0 { 0.0 } else { value };
    let bits = if value.is_nan() { f64::NAN.to_bits() & !(1 << 63) } else { value.to_bits() };
    let is_negative = bits >> 63 == 1;
    let ordered = if is_negative { !bits } else { bits | 1 << 63 };
    key.extend_from_slice(&ordered.to_be_bytes());
}

/// Bytes with an end, so that nothing behind them counts unless they are equal.
fn escaped(key: &mut Vec<u8>, bytes: &[u8]) {
    for part in bytes.split_inclusive(|byte| *byte == 0) {
        key.extend_from_slice(part);
        if part.last() == Some(&0) {
            key.push(1);
        }
    }
    key.extend_from_slice(&[0, 0]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronicle_archive::time::Instant;

    fn key(order: &Order, values: &[Value<'_>]) -> Vec<u8> {
        let mut key = Vec::new();
        for value in values {
            assert!(order.push(&mut key, *value), "{value:?}");
        }
        key
    }

    fn assert_rises(order: &Order, rows: &[&[Value<'_>]]) {
        for pair in rows.windows(2) {
            assert!(key(order, pair[0]) < key(order, pair[1]), "{pair:?}");
        }
    }

    #[test]
    fn keys_rise_as_the_server_sorts() {
        let text = |t: &'static str| Value::Text(t.as_bytes());
        assert_rises(
            &Order::Values,
            &[
                &[Value::Int(i64::MIN)],
                &[Value::Int(-1)],
                &[Value::Int(0)],
                &[Value::Int(i64::MAX)],
                &[Value::Null],
            ],
        );
        assert_rises(
            &Order::Values,
            &[
                &[Value::Real(f64::NEG_INFINITY)],
                &[Value::Real(-1.5)],
                &[Value::Real(0.0)],
                &[Value::Real(5e-324)],
                &[Value::Real(f64::INFINITY)],
                &[Value::Real(-f64::NAN)],
            ],
        );
        assert_eq!(
            key(&Order::Values, &[Value::Real(-0.0)]),
            key(&Order::Values, &[Value::Real(0.0)])
        );
        assert_rises(
            &Order::Values,
            &[
                &[text(""), text("z")],
                &[text("a"), text("z")],
                &[text("a\u{1}"), text("")],
                &[text("ab"), text("")],
                &[text("é"), text("")],
            ],
        );
        assert_rises(
            &Order::Values,
            &[
                &[Value::Blob(b""), text("z")],
                &[Value::Blob(b"\0"), text("z")],
                &[Value::Blob(b"\0\0"), text("")],
                &[Value::Blob(b"\0\x01"), text("")],
                &[Value::Blob(b"\x01"), text("")],
            ],
        );
        assert_rises(&Order::Values, &[&[Value::Time(Instant(-5))], &[Value::Time(Instant::MAX)]]);
        assert_rises(
            &Order::Days,
            &[
                &[text("-infinity")],
                &[text("0044-03-15 BC")],
                &[text("2025-02-28")],
                &[text("infinity")],
            ],
        );
        assert_rises(
            &Order::Timestamps,
            &[&[text("0044-03-15 01:00:00 BC")], &[text("2025-02-28 00:00:00.5")]],
        );
        let words = Order::Words(vec!["low".into(), "high".into()]);
        assert_rises(&words, &[&[text("low")], &[text("high")], &[Value::Null]]);
        assert!(!words.push(&mut Vec::new(), text("other")));
    }
}
