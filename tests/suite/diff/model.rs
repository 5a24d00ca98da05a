//! The comparison of random sides agrees with a simple model.

use super::*;

/// Equal, changed, only in A, only in B, as a multiset in memory counts them.
fn zone_rule(a: &[Row], b: &[Row], key: &[usize]) -> [u64; 4] {
    let mut rows: BTreeMap<&Row, [u64; 2]> = BTreeMap::new();
    a.iter().for_each(|row| rows.entry(row).or_default()[0] += 1);
    b.iter().for_each(|row| rows.entry(row).or_default()[1] += 1);
    let mut counts = [0; 4];
    let mut left: BTreeMap<Vec<&Cell>, [u64; 2]> = BTreeMap::new();
    for (row, [in_a, in_b]) in rows {
        let equal = in_a.min(in_b);
        counts[0] += equal;
        let of_key = left.entry(key.iter().map(|k| &row[*k]).collect()).or_default();
        of_key[0] += in_a - equal;
        of_key[1] += in_b - equal;
    }
    for [in_a, in_b] in left.into_values() {
        let changed = if key.is_empty() { 0 } else { in_a.min(in_b) };
        counts[1] += changed;
        counts[2] += in_a - changed;
        counts[3] += in_b - changed;
    }
    counts
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn the_counts_are_those_of_multisets_in_memory(
        one in sides(),
        two in sides(),
        key in proptest::sample::select(vec![&[0_usize][..], &[0, 1], &[]]),
        orders in proptest::sample::select(vec![[&[0_usize, 1, 2][..]; 2], [&[], &[0]], [&[], &[]]]),
        sort in any::<[bool; 2]>(),
        sizes in [1..9_usize, 1..9],
        swapped in any::<bool>(),
    ) {
        let mut sides: [Vec<Vec<Row>>; 2] =
            [0, 1].map(|side| vec![one[side].clone(), two[side].clone()]);
        for (side, sort) in sides.iter_mut().zip(sort) {
            side.iter_mut().filter(|_| sort).for_each(|rows| rows.sort());
        }
        let mut counts = BTreeMap::new();
        for (n, name) in ["one", "two"].into_iter().enumerate() {
            counts.insert(name.to_owned(), zone_rule(&sides[0][n], &sides[1][n], key));
        }
        let streams = |order| vec![stream("one", key, order), stream("two", key, order)];
        let (mut streams_b, mut rows_b) = (streams(orders[1]), sides[1].clone());
        if swapped {
            streams_b.reverse();
            rows_b.reverse();
        }
        let a = Rows::new(streams(orders[0]), &sides[0], sizes[0]);
        let b = Rows::new(streams_b, &rows_b, sizes[1]);
        let (compared, differences) = compare_rows(a, b, &CompareOptions::default());
        for s in &compared.streams {
            let found = [s.equal_rows, s.changed_rows, s.only_a_rows, s.only_b_rows];
            prop_assert_eq!(found, counts[&s.stream], "{}", s.stream);
            let told_as = |is: fn(&DifferenceKind) -> bool| {
                differences.iter().filter(|d| d.stream == s.stream && is(&d.kind)).count() as u64
            };
            prop_assert_eq!(told_as(|k| matches!(k, DifferenceKind::Changed(c) if !c.is_empty())), found[1]);
            prop_assert_eq!(told_as(|k| *k == DifferenceKind::OnlyA), found[2]);
            prop_assert_eq!(told_as(|k| *k == DifferenceKind::OnlyB), found[3]);
        }
        let different = counts.values().any(|c| c[1..] != [0; 3]);
        prop_assert_eq!(compared.is_equal(), !different);
    }
}

#[test]
fn extra_rows_in_b_may_be_counted_without_being_shown() {
    let row = |id, content| vec![Cell::Int(id), Cell::Null, Cell::Text(content)];
    let side = |rows: &[Row]| Rows::new(vec![stream("s", &[0], &[0])], &[rows.to_vec()], 2);
    let options = CompareOptions { more_in_b: true, ..CompareOptions::default() };
    let one = [row(1, "a"), row(3, "a")];
    let (compared, differences) =
        compare_rows(side(&one), side(&[row(1, "a"), row(2, "a"), row(3, "a")]), &options);
    assert!(differences.is_empty() && compared.b_holds_a() && !compared.is_equal());
    let (compared, differences) =
        compare_rows(side(&one), side(&[row(1, "b"), row(2, "a")]), &options);
    assert!(!compared.b_holds_a() && compared.streams[0].only_b_rows == 1);
    let column = ChangedColumn { column: "content".into(), a: "\"a\"".into(), b: "\"b\"".into() };
    let difference = |key: &str, kind| Difference { stream: "s".into(), key: key.into(), kind };
    assert_eq!(
        differences,
        [
            difference("1", DifferenceKind::Changed(vec![column])),
            difference("3", DifferenceKind::OnlyA)
        ]
    );
}

#[test]
fn keys_of_uuids_equal_their_usual_text_and_no_other_spelling() {
    const ID: &str = "6bcead65-ea06-42cc-95a8-96aeaf78f72d";
    let id = Cell::Uuid(*uuid::Uuid::parse_str(ID).unwrap().as_bytes());
    let side = |id| {
        let rows = vec![vec![id, Cell::Null, Cell::Text("x")]];
        Rows::new(vec![stream("s", &[0], &[0])], &[rows], 1)
    };
    for (text, equal) in [(ID, true), ("6BCEAD65-EA06-42CC-95A8-96AEAF78F72D", false)] {
        let (a, b) = (side(id.clone()), side(Cell::Text(text)));
        let (compared, _) = compare_rows(a, b, &CompareOptions::default());
        assert_eq!(compared.is_equal(), equal, "{text}");
    }
}

#[test]
fn local_times_of_two_zones_are_compared_as_instants() {
    let side = |zone, time| {
        let mut stream = stream("s", &[0], &[0]);
        stream.columns[2].time_text = TimeText::Local;
        let rows = vec![vec![Cell::Int(1), Cell::Null, Cell::Text(time)]];
        Rows { zone, ..Rows::new(vec![stream], &[rows], 1) }
    };
    let options = CompareOptions { assume_zone: AssumeZone::Archive, ..CompareOptions::default() };
    let (noon, one) = ("2025-01-01T12:00:00", "2025-01-01 13:00");
    for (a, b, equal) in [
        ((Some("+01:00"), noon), (Some("+02:00"), noon), false),
        ((Some("+01:00"), noon), (Some("+02:00"), one), true),
        // a side that does not say takes the other's
        ((Some("+01:00"), noon), (None, noon), true),
        ((None, noon), (Some("+02:00"), "2025-01-01T10:00:00Z"), true),
    ] {
        let (compared, _) = compare_rows(side(a.0, a.1), side(b.0, b.1), &options);
        assert_eq!(compared.is_equal(), equal, "{a:?} {b:?}");
    }
    let error = try_to_compare(side(None, noon), side(None, noon), &options).unwrap_err();
    assert!(error.code() == Code::Plan && error.next_step().is_some(), "{error:?}");
}
