//! Ids: the UUID and the integer that a value spells, the UUID derived from it, and the name of a database.

use std::borrow::Cow;

use uuid::Uuid;

use chronicle_archive::{Value, show};

/// The UUID that replaces an id which is none: version 5 of where it comes from, whose rows it
/// names, its class and its bytes. The same id gives the same UUID at any time.
pub fn uuid_for(instance: Uuid, stream: &str, id: Value<'_>) -> Uuid {
    let (class, bytes) = match id {
        Value::Text(bytes) => ("text", bytes.to_vec()),
        Value::Blob(bytes) => ("blob", bytes.to_vec()),
        other => ("", show(other).into_bytes()),
    };
    let name = [stream.as_bytes(), b"\0", class.as_bytes(), b"\0", &bytes].concat();
    Uuid::new_v5(&instance, &name)
}

/// The UUID that identifies a database, derived from what distinguishes it. It follows from these texts at any
/// time, and none of them can be read out of it.
pub fn instance_of(parts: &[&[u8]]) -> Uuid {
    const DATABASES: Uuid = Uuid::from_u128(0x9d3f_7a52_6c0e_4b1d_8f24_51a0_c7e6_3b98);
    // lengths go in too: no two lists of texts run together into the same bytes
    let mut name = Vec::new();
    for part in parts {
        name.extend_from_slice(&(part.len() as u64).to_be_bytes());
        name.extend_from_slice(part);
    }
    Uuid::new_v5(&DATABASES, &name)
}

/// The UUID that an id spells, if it is one: in the spellings that PostgreSQL reads, and as a URN.
pub fn as_uuid(id: Value<'_>) -> Option<Uuid> {
    match id {
        Value::Uuid(bytes) => Some(Uuid::from_bytes(bytes)),
        Value::Text(text) => Uuid::try_parse_ascii(text).ok(),
        _ => None,
    }
}

/// The integer that an id spells, in the one spelling that an integer has.
pub fn as_integer(id: Value<'_>) -> Option<i64> {
    match id {
        Value::Int(v) => Some(v),
        Value::Text(text) => {
            let text = std::str::from_utf8(text).ok()?;
            text.parse().ok().filter(|v: &i64| v.to_string() == text)
        }
        _ => None,
    }
}

/// Appends what identifies a value, so that no two lists of values have the same name: its length,
/// then the text that names it.
pub fn write_part(value: Value<'_>, name: &mut Vec<u8>) {
    let start = name.len();
    name.extend_from_slice(&[0; 4]);
    name.extend_from_slice(id_text(value).as_bytes());
    let length = u32::try_from(name.len() - start - 4).unwrap_or(u32::MAX);
    name[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// The same as [`show_id`], without a copy where the id is a text already.
pub fn id_text(id: Value<'_>) -> Cow<'_, str> {
    match id {
        Value::Text(text) => {
            std::str::from_utf8(text).map_or_else(|_| show_id(id).into(), Cow::Borrowed)
        }
        other => show_id(other).into(),
    }
}

/// An id as a text that names it, and as SQL casts it to text.
pub fn show_id(id: Value<'_>) -> String {
    match id {
        Value::Text(text) => match std::str::from_utf8(text) {
            Ok(text) => text.to_owned(),
            Err(_) => format!("\u{0}text {}", chronicle_archive::hex(text)),
        },
        Value::Blob(bytes) => format!("\u{0}blob {}", chronicle_archive::hex(bytes)),
        other => show(other),
    }
}

/// The text that names a row by its key, which may have several columns: as [`show_id`] names the only
/// one, else these texts between `, `, with every comma and backslash of their own behind a backslash, so
/// that no two keys have the same text.
pub fn key_text<'a>(key: impl IntoIterator<Item = Value<'a>>) -> String {
    let mut parts: Vec<String> = key.into_iter().map(show_id).collect();
    if parts.len() > 1 {
        for part in parts.iter_mut().filter(|part| part.contains(['\\', ','])) {
            *part = part.replace('\\', r"\\").replace(',', r"\,");
        }
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn one_id_of_one_place_is_always_the_same_uuid_and_of_two_never() {
        let (here, there) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let id = |v: i64| Value::Int(v);
        assert_eq!(uuid_for(here, "sessions", id(1)), uuid_for(here, "sessions", id(1)));
        let others = [
            uuid_for(here, "sessions", id(1)),
            uuid_for(here, "sessions", id(2)),
            uuid_for(here, "events", id(1)),
            uuid_for(there, "sessions", id(1)),
            uuid_for(here, "sessions", Value::Text(b"1")),
            uuid_for(here, "sessions", Value::Blob(b"1")),
        ];
        let distinct: HashSet<Uuid> = others.into_iter().collect();
        assert_eq!(distinct.len(), others.len());
    }

    #[test]
    fn integers_have_one_spelling_and_uuids_have_several() {
        assert_eq!(as_integer(Value::Text(b"7")), Some(7));
        for no in ["07", "+7", " 7", "7.0", "", "x"] {
            assert_eq!(as_integer(Value::Text(no.as_bytes())), None, "{no}");
        }
        let plain = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
        for yes in [
            plain.to_owned(),
            plain.to_uppercase(),
            plain.replace('-', ""),
            format!("{{{plain}}}"),
            format!("urn:uuid:{plain}"),
        ] {
            assert_eq!(as_uuid(Value::Text(yes.as_bytes())), Uuid::parse_str(plain).ok(), "{yes}");
        }
        assert_eq!(as_uuid(Value::Text(b" 6ba7b810-9dad-11d1-80b4-00c04fd430c8")), None);
    }

    #[test]
    fn no_two_keys_have_the_same_text() {
        let text = |parts: &[&str]| key_text(parts.iter().map(|part| Value::Text(part.as_bytes())));
        assert_eq!(text(&["a, b"]), "a, b", "one column is spelled as it is");
        assert_eq!(key_text([Value::Int(1), Value::Text(b"x")]), "1, x");
        let keys: [&[&str]; 7] = [
            &["a, b", "c"],
            &["a", "b, c"],
            &["a", "b", "c"],
            &[r"a\", "b"],
            &["a", r"\b"],
            &[r"a\, b", ""],
            &["", r"a\, b"],
        ];
        let distinct: HashSet<String> = keys.iter().map(|key| text(key)).collect();
        assert_eq!(distinct.len(), keys.len(), "{distinct:?}");
    }
}
