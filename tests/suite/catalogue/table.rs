//! The table of the results, as a document.

use super::*;

const WAYS: [(&str, &str); 4] = [
    ("sqlite", "sqlite"),
    ("sqlite", "postgres"),
    ("postgres", "sqlite"),
    ("postgres", "postgres"),
];

const INTRODUCTION: &str = include_str!("introduction.md");

pub(super) fn document(catalogue: &Catalogue, outcomes: &[((&str, &str), Outcomes)]) -> String {
    let mut text = INTRODUCTION
        .replace(
            "{cases}",
            &catalogue.area.iter().map(|a| a.cases.len()).sum::<usize>().to_string(),
        )
        .replace("{pairs}", &(FROM.len() * TO.len()).to_string())
        .replace("{from}", &FROM.map(|name| format!("`{name}`")).join(", "))
        .replace("{to}", &TO.map(|name| format!("`{name}`")).join(", "));
    let mut reasons: Vec<String> = Vec::new();
    for area in &catalogue.area {
        writeln!(text, "\n## {}\n\nIn `{}`.\n", area.name, area.column).unwrap();
        text.push_str(
            "| value | SQL | SQLite → SQLite | SQLite → Postgres | Postgres → SQLite | Postgres → Postgres |\n\
             |---|---|---|---|---|---|\n",
        );
        for case in &area.cases {
            let sql = case.sql.as_deref().or(case.sqlite.as_deref()).or(case.postgres.as_deref());
            let mut line = format!("| {} | {} |", case.name, shown(sql.unwrap()));
            for way in WAYS {
                let of_way = outcomes.iter().filter(|(w, _)| *w == way);
                let found: BTreeSet<&String> =
                    of_way.filter_map(|(_, found)| found.get(&case.number)).collect();
                let cell = cell(&found, &mut reasons);
                write!(line, " {cell} |").unwrap();
            }
            writeln!(text, "{line}").unwrap();
        }
    }
    text.push_str("\n## Reasons\n\nAs an import names them, with the row and its key.\n\n");
    for (n, reason) in reasons.iter().enumerate() {
        writeln!(text, "{}. {reason}", n + 1).unwrap();
    }
    text
}

/// The results of a value in all pairs of one direction.
fn cell(found: &BTreeSet<&String>, reasons: &mut Vec<String>) -> String {
    let mut words = BTreeMap::<&str, BTreeSet<usize>>::new();
    for outcome in found {
        let (word, reason) = outcome.split_once(": ").unwrap_or((outcome.as_str(), ""));
        let numbers = words.entry(word).or_default();
        if !reason.is_empty() {
            let at = reasons.iter().position(|r| r == reason).unwrap_or_else(|| {
                reasons.push(reason.to_owned());
                reasons.len() - 1
            });
            numbers.insert(at + 1);
        }
    }
    if words.is_empty() {
        return "—".into();
    }
    const ORDER: [&str; 11] = [
        "kept",
        "converted",
        "mapped",
        "remapped",
        "follows",
        "stored",
        "nearest",
        "NULL",
        "refused",
        "orphan",
        "left out",
    ];
    let shown_words = ORDER.into_iter().filter_map(|word| {
        let numbers = words.get(word)?;
        let numbers: Vec<String> = numbers.iter().map(usize::to_string).collect();
        Some(if numbers.is_empty() {
            word.into()
        } else {
            format!("{word} ({})", numbers.join(", "))
        })
    });
    shown_words.collect::<Vec<String>>().join(", ")
}

/// A piece of SQL for a table.
fn shown(sql: &str) -> String {
    let mut text = String::new();
    for c in sql.chars() {
        match c {
            '|' => text.push_str("\\|"),
            c if c.is_ascii_graphic() || c == ' ' || c.is_alphanumeric() => text.push(c),
            c => write!(text, "{{{:X}}}", u32::from(c)).unwrap(),
        }
    }
    let fence = if text.contains('`') { "``" } else { "`" };
    format!("{fence}{text}{fence}")
}

pub(super) fn same_as_document(text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/values.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, text).unwrap();
    }
    assert!(
        fs::read_to_string(&path).unwrap_or_default() == text,
        "docs/values.md is not what came of the values; UPDATE_DOCS=1 tests/run catalogue:: \
         rewrites it"
    );
}
