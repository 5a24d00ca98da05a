//! The result of every value of a database, compared with the report.

use super::*;

/// What a database held before an import of its archive.
pub(crate) struct Before {
    /// Per stream the rows by their numbers.
    pub(crate) rows: BTreeMap<&'static str, BTreeMap<usize, Row>>,
    pub(super) zones: BTreeMap<(&'static str, String), Option<Zoneless>>,
    pub(super) jsonb: BTreeMap<(&'static str, usize, String), Option<String>>,
}

/// The result of a value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Became {
    /// The same bytes.
    Kept,
    /// Its meaning in another spelling.
    Converted,
    /// A reference to a row whose id became another one.
    Follows,
    /// Something else, which the report counts.
    Changed,
    /// NULL where there was a value, which the report counts.
    Emptied,
    /// It is stored with its row, since the target has no column for it.
    Folded,
    /// It was left out with its row, for a reason.
    Rejected(String),
    /// It was left out with its row, which refers to nothing.
    Orphan,
}

/// The result of every value: by stream, number of the row and column.
pub(crate) type Fates = BTreeMap<(&'static str, usize, String), Became>;
/// Why rows were left out: by stream and number, columns and reasons.
pub(crate) type Rejected = BTreeMap<(String, usize), Vec<(String, String)>>;

impl Before {
    /// Reads a database.
    pub(crate) fn of(store: &Store) -> Before {
        let (mut rows, mut zones) = (BTreeMap::new(), BTreeMap::new());
        for stream in STREAMS {
            for column in store.columns(stream).iter() {
                let zone = zoneless(store.stream(stream), column);
                zones.insert((stream, column.name.clone()), zone);
            }
            rows.insert(stream, numbered(store.rows(stream)));
        }
        let mut before = Before { rows, zones, jsonb: BTreeMap::new() };
        let mut places = Vec::new();
        for (stream, n, name, cell) in before.cells() {
            if name.starts_with("data") || name.starts_with("metadata") {
                places.push(((stream, n, name.to_owned()), cell.text().map(str::to_owned)));
            }
        }
        let texts: Vec<Option<&str>> = places.iter().map(|(_, text)| text.as_deref()).collect();
        let spelled = as_jsonb(&texts);
        before.jsonb = places.into_iter().map(|(place, _)| place).zip(spelled).collect();
        before
    }

    pub(super) fn cells(&self) -> impl Iterator<Item = (&'static str, usize, &str, &Cell)> {
        self.rows.iter().flat_map(|(stream, rows)| {
            rows.iter().flat_map(|(n, row)| {
                (row.iter().filter(|(name, _)| !name.ends_with('-')))
                    .map(|(name, cell)| (*stream, *n, name.as_str(), cell))
            })
        })
    }

    /// Finds out the result of every value except those in rows that were not in the archive, and compares it with the
    /// report: what is another value and not counted there is an error.
    pub(crate) fn judge(
        &self,
        to: &Store,
        report: &Json,
        rejected: &Rejected,
        absent: &BTreeSet<(String, usize)>,
    ) -> Result<Fates, String> {
        let mut fates = Fates::new();
        let mut wrong = Vec::new();
        let mut after = BTreeMap::new();
        let mut names = BTreeMap::new();
        for stream in STREAMS {
            let columns: BTreeSet<String> =
                to.columns(stream).iter().map(|c| c.name.clone()).collect();
            names.insert(stream, columns);
            // a session that an import made has perhaps no mark
            let marked = to.rows(stream).into_iter().filter(|row| number_of(row).is_some());
            after.insert(stream, numbered(marked));
        }
        let mut skipped = 0;
        for (stream, n, name, cell) in self.cells() {
            let place = (stream.to_owned(), n);
            if absent.contains(&place) {
                continue;
            }
            let why = rejected.get(&place);
            let fate = match (after[stream].get(&n), why) {
                (Some(_), Some(_)) => {
                    wrong.push(format!("{stream} {n} is there and among the rejects"));
                    continue;
                }
                (None, Some(why)) => match why.iter().find(|(c, _)| c == name || c.is_empty()) {
                    Some((_, reason)) => Became::Rejected(reason.clone()),
                    None => continue,
                },
                (None, None) => {
                    skipped += u64::from(name == "id");
                    Became::Orphan
                }
                (Some(_), None) if !names[stream].contains(name) => {
                    if cell.bytes.is_none() {
                        Became::Kept
                    } else {
                        Became::Folded
                    }
                }
                // a gap that the import fills with its own id
                (Some(row), None)
                    if name == "migration_batch"
                        && cell.bytes.is_none()
                        && row[name].text() == report["batch_id"].as_str() =>
                {
                    Became::Kept
                }
                (Some(row), None) => self.compare(stream, n, name, cell, row, &after),
            };
            fates.insert((stream, n, name.to_owned()), fate);
        }
        let sum = |key: &str| -> u64 {
            let streams = report["streams"].as_array().into_iter().flatten();
            streams.filter_map(|s| s[key].as_u64()).sum()
        };
        if skipped != sum("skipped_orphans") {
            wrong.push(format!("{skipped} rows are missing, of which the report does not tell"));
        }
        wrong.extend(uncounted(&fates, report, skipped));
        if wrong.is_empty() { Ok(fates) } else { Err(wrong.join("\n")) }
    }

    pub(super) fn compare(
        &self,
        stream: &'static str,
        n: usize,
        name: &str,
        cell: &Cell,
        row: &Row,
        after: &BTreeMap<&'static str, BTreeMap<usize, Row>>,
    ) -> Became {
        let place = (stream, n, name.to_owned());
        let jsonb = self.jsonb.get(&place).and_then(Option::as_deref);
        let zone = self.zones.get(&(stream, name.to_owned())).copied().flatten();
        let bare = row.get(&format!("{name}-"));
        match same(cell, &row[name], bare, zone, jsonb) {
            Same::Kept => Became::Kept,
            Same::Converted => Became::Converted,
            Same::Differs if name == "session_id" => {
                let mut sessions = self.rows["sessions"].iter();
                let session = sessions.find(|(_, s)| s["id"].bytes == cell.bytes).map(|(n, _)| *n);
                let now = session.and_then(|n| after["sessions"].get(&n)).map(|s| &s["id"]);
                let follows = now.is_some_and(|now| now.bytes == row[name].bytes);
                if follows { Became::Follows } else { Became::Changed }
            }
            Same::Differs if row[name].bytes.is_none() => Became::Emptied,
            Same::Differs => Became::Changed,
        }
    }
}

/// Every value that changed or moved without being counted in the report.
pub(super) fn uncounted(fates: &Fates, report: &Json, skipped: u64) -> Vec<String> {
    let mut counted: BTreeMap<(String, String), (u64, u64)> = BTreeMap::new();
    for change in report["changes"].as_array().into_iter().flatten() {
        let text = |key: &str| change[key].as_str().unwrap().to_owned();
        let count = counted.entry((text("stream"), text("column"))).or_default();
        match text("kind").as_str() {
            "stored" | "folded" | "dropped" => count.1 += change["values"].as_u64().unwrap(),
            _ => count.0 += change["values"].as_u64().unwrap(),
        }
    }
    for orphans in report["orphans"].as_array().into_iter().flatten() {
        let text = |key: &str| orphans[key].as_str().unwrap().to_owned();
        let count = counted.entry((text("stream"), text("column"))).or_default();
        count.0 += orphans["rows"].as_u64().unwrap();
    }
    let mut found: BTreeMap<(String, String), (Vec<usize>, Vec<usize>)> = BTreeMap::new();
    for ((stream, n, name), fate) in fates {
        let rows = found.entry(((*stream).to_owned(), name.clone())).or_default();
        match fate {
            Became::Changed | Became::Emptied => rows.0.push(*n),
            Became::Folded if !name.starts_with("original_") => rows.1.push(*n),
            _ => {}
        }
    }
    let mut wrong = Vec::new();
    for ((stream, name), (changed, folded)) in found {
        let derived = report["notices"].as_array().is_some_and(|notices| {
            notices
                .iter()
                .any(|n| n.as_str().is_some_and(|n| n.contains(&name) && n.contains("recomputed")))
        });
        let (values, kept) =
            counted.get(&(stream.clone(), name.clone())).copied().unwrap_or((0, 0));
        if changed.len() as u64 > values {
            wrong.push(format!("{stream}.{name}: {changed:?} changed, {values} counted"));
        }
        // rows that were left out at the end, since they refer to nothing, were counted before
        let least = kept.saturating_sub(skipped);
        let explained = (least..=kept).contains(&(folded.len() as u64)) || derived && kept == 0;
        if !explained {
            wrong.push(format!("{stream}.{name}: {folded:?} without a column, {kept} counted"));
        }
    }
    wrong
}

/// Why rows were left out, as the archive of rejects says.
pub(crate) fn rejects(archive: &Path) -> Rejected {
    let mut found = Rejected::new();
    for line in if archive.exists() { lines(archive) } else { Vec::new() } {
        let n = line.number().unwrap_or_else(|| panic!("no mark: {line:?}"));
        found.insert((line.stream, n), line.rejected);
    }
    found
}

/// What of one archive is not in another one of the same rows, which came back: values that are spelled differently, or
/// are gone.
pub(crate) fn given_back(first: &[Line], again: &[Line]) -> Vec<String> {
    let find = |line: &Line| {
        let number = line.number();
        again.iter().find(|l| l.stream == line.stream && l.number() == number)
    };
    let mut wrong = Vec::new();
    for line in first {
        // what is missing was counted before
        let Some(back) = find(line) else { continue };
        for (name, value) in &line.record {
            let now = back.record.get(name);
            let same = now == Some(value) && back.exact.get(name) == line.exact.get(name);
            let original = || {
                // of another class than text it is exact
                let keeps = |(n, v): (&String, &String)| {
                    n.starts_with("original_")
                        && match line.exact.get(name) {
                            Some(exact) => back.exact.get(n) == Some(exact),
                            None => {
                                let number = format!("{{\"int\":\"{value}\"}}");
                                v == value || back.exact.get(n) == Some(&number)
                            }
                        }
                };
                back.record.iter().any(keeps)
            };
            // a column that is used up had nothing in this row
            let nothing = now.is_none() && value == "null" && !line.exact.contains_key(name);
            if same || nothing || (name == "id" && original()) || name == "session_id" {
                continue;
            }
            let n = line.number();
            wrong.push(format!(
                "{} {n:?} {name}: {value} {:?} is now {now:?} {:?}",
                line.stream,
                line.exact.get(name),
                back.exact.get(name)
            ));
        }
    }
    wrong
}
