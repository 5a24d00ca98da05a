//! Rows as RECORD lines and back: each value in the portable form that every reader sees, and the exact value next to
//! the record where that differs.

mod decode;
mod encode;
mod portable;

pub use decode::Decoder;
pub use encode::Encoder;
pub use portable::{nonportable, portable, real_text};

/// How every RECORD line of a stream starts.
fn record_prefix(stream: &str) -> Vec<u8> {
    format!("{{\"type\":\"RECORD\",\"stream\":\"{stream}\",\"record\":{{").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Batch;
    use crate::model::{Column, Kind, Stream, TimeText, Value};
    use crate::time::Instant;

    fn stream(kinds: &[(Kind, TimeText)]) -> Stream {
        let column = |(n, (kind, time_text)): (usize, &(Kind, TimeText))| Column {
            name: format!("c{n}"),
            physical: format!("c{n}"),
            kind: *kind,
            nullable: n > 0,
            time_text: *time_text,
        };
        let columns = kinds.iter().enumerate().map(column).collect();
        Stream { name: "s".into(), table: "s".into(), columns, key: vec![0], order: vec![] }
    }

    fn batch(values: &[Value<'_>]) -> Batch {
        let mut batch = Batch::default();
        batch.start(0, values.len(), 1);
        values.iter().for_each(|value| batch.push(*value));
        batch
    }

    fn encode(stream: &Stream, batch: &Batch) -> String {
        let mut line = Vec::new();
        Encoder::new(stream).write(batch, 0, "", &mut line);
        String::from_utf8(line).unwrap()
    }

    fn decode(stream: &Stream, line: &str) -> crate::Result<Batch> {
        let mut batch = Batch::default();
        batch.start(0, stream.columns.len(), 1);
        batch.adopt(line.as_bytes().to_vec());
        Decoder::new(stream).read(&mut batch, 0, line.trim_end().len())?;
        Ok(batch)
    }

    /// A line of a stream with a text key, a local time and JSON.
    fn line(record: &str, side: &str) -> (Stream, String) {
        let stream = stream(&[
            (Kind::Text, TimeText::None),
            (Kind::Text, TimeText::Local),
            (Kind::Json, TimeText::None),
        ]);
        let line = format!(
            "{{\"type\":\"RECORD\",\"stream\":\"s\",\"record\":{{{record}}},\"chronicle\":{side}}}\n"
        );
        (stream, line)
    }

    #[test]
    fn rows_are_decoded_as_they_were_encoded() {
        let values = [
            (Kind::Text, Value::Blob(b"key")),
            (Kind::Int, Value::Int(-1)),
            (Kind::Int, Value::Text(b"\xff")),
            (Kind::Real, Value::Real(f64::INFINITY)),
            (Kind::Bool, Value::Bool(false)),
            (Kind::Text, Value::Text(b"a\0\"\\\n")),
            (Kind::Time, Value::Time(Instant::MAX)),
            (Kind::Uuid, Value::Uuid([7; 16])),
            (Kind::Bytes, Value::Blob(b"\0\x01")),
            (Kind::Json, Value::Text(b"{\"a\":1,\"a\":2}")),
            (Kind::Jsonb, Value::Text(b"{\"a\": 1}")),
            (Kind::Numeric, Value::Text(b"NaN")),
            (Kind::Date, Value::Text(b"2024-02-29")),
            (Kind::Other, Value::Null),
        ];
        let stream = stream(&values.map(|(kind, _)| (kind, TimeText::None)));
        let mut written = batch(&values.map(|(_, value)| value));
        written.set_keyless(0);
        let read = decode(&stream, &encode(&stream, &written)).unwrap();
        for (n, (_, value)) in values.iter().enumerate() {
            assert_eq!(read.value(0, n), *value, "column {n}");
        }
        assert!(read.keyless(0));
    }

    #[test]
    fn offsets_of_local_times_are_kept() {
        let (stream, _) = line("", "");
        let values = [Value::Text(b"a"), Value::Text(b"2025-08-19 12:00:00"), Value::Null];
        let mut written = batch(&values);
        written.set_offset(1, -28_800);
        let line = encode(&stream, &written);
        assert!(line.ends_with(",\"chronicle\":{\"offsets\":{\"c1\":\"-08:00\"}}}\n"), "{line}");
        assert_eq!(decode(&stream, &line).unwrap().offset(0, 1), Some(-28_800));
    }

    #[test]
    fn exact_values_must_match_what_the_record_shows() {
        let record = r#""c0":"a","c1":"b","c2":{"n":"1e999"}"#;
        for (side, expected) in [
            (r#"{"exact":{"c2":{"json":"{\"n\":1e999}"}}}"#, None),
            (r#"{"more":[1]}"#, None),
            (
                r#"{"exact":{"c2":{"json":"{\"n\":1e998}"}}}"#,
                Some("column c2: found a record value, expected the portable form"),
            ),
            (r#"{"exact":{"c3":{"text":"a"}}}"#, Some("an exact value for an unknown column")),
            (r#"{"exact":{"c2":{"jsonc":"{}"}}}"#, Some("the exact tag \"jsonc\" is not known")),
            (
                r#"{"offsets":{"c1":"+02:00"}}"#,
                Some("expected an offset for a time without a zone"),
            ),
            (r#"{"offsets":{},"offsets":{}}"#, Some("one `chronicle` object with distinct names")),
        ] {
            let (stream, line) = line(record, side);
            let error = decode(&stream, &line).err().map(|error| error.to_string());
            match expected {
                None => assert_eq!(error, None, "{side}"),
                Some(part) => {
                    assert!(error.as_ref().is_some_and(|e| e.contains(part)), "{side}: {error:?}");
                }
            }
        }
    }

    #[test]
    fn values_are_checked_against_their_kind() {
        for (kind, text) in [
            (Kind::Int, "-0"),
            (Kind::Int, "01"),
            (Kind::Int, "1.0"),
            (Kind::Int, "\"1\""),
            (Kind::Real, "1"),
            (Kind::Real, "5."),
            (Kind::Real, "1e999"),
            (Kind::Bool, "True"),
            (Kind::Text, "\"\\u0000\""),
            (Kind::Text, "1"),
            (Kind::Time, "\"2025-08-19T12:00:00Z\""),
            (Kind::Uuid, "\"07070707-0707-0707-0707-07070707070G\""),
            (Kind::Bytes, "\"AP8\""),
            (Kind::Json, "[]"),
            (Kind::Numeric, "\"1e5\""),
            (Kind::Date, "\"2025-02-29\""),
        ] {
            let stream = stream(&[(Kind::Text, TimeText::None), (kind, TimeText::None)]);
            let prefix = String::from_utf8(record_prefix("s")).unwrap();
            let error = decode(&stream, &format!("{prefix}\"c0\":\"a\",\"c1\":{text}}}}}\n")).err();
            let error = error.map(|error| error.to_string()).unwrap_or_default();
            assert!(error.starts_with("column c1: found "), "{kind:?} {text}: {error}");
        }
    }
}
