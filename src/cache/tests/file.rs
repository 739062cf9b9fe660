//! The table's file: what the reference writes, what it can read back, and what is no table.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::cache::{
    file::{parse, serialize},
    table::{Entry, Table},
};

fn read(text: &str) -> (Table, Vec<String>) {
    let parsed = parse(text.as_bytes(), Path::new("/w/caches"), Path::new("/w")).expect("a table");
    (parsed.table, parsed.dropped)
}

#[test]
fn a_table_of_the_reference_is_read_in_both_formats() {
    let text = r#"{
  "old-format": {"created": "2026-08-01T10:00:00.123456789+02:00", "location": "/w/caches/AAAA", "hits": 9, "key": "old-format",
    "sha256": "", "in_use": true, "last_used": "0001-01-01T00:00:00Z"},
  "pool": [
    {"created": "2026-08-01T10:00:00.0Z", "location": "caches/BBBB", "hits": 1, "key": "pool", "sha256": "ab", "in_use": false,
     "last_used": "2026-08-02T10:00:00Z"},
    {"created": "2026-08-01T10:00:00Z", "location": "/w//caches/./CCCC/", "hits": 0, "key": "pool", "sha256": "",
     "in_use": false, "last_used": "2026-08-03T10:00:00Z", "from_a_later_version": 1}
  ],
  "none": null
}"#;
    let (table, dropped) = read(text);
    assert_eq!(dropped, [""; 0]);
    let entries: Vec<(&str, &Path, u64, bool)> =
        table.entries().map(|(name, e)| (name, e.location.as_path(), e.hits, e.in_use)).collect();
    assert_eq!(
        entries,
        [
            ("old-format", Path::new("/w/caches/AAAA"), 9, false),
            ("pool", Path::new("/w/caches/BBBB"), 1, false),
            ("pool", Path::new("/w/caches/CCCC"), 0, false),
        ]
    );
}

#[test]
fn the_reference_finds_its_own_fields_and_no_other() {
    let mut table = Table::default();
    let now = "2026-08-01T10:00:00Z".parse().expect("a date");
    let location = PathBuf::from("/w/caches/tc-x/data");
    table.insert("n", Entry { location, created: now, last_used: now, hits: 3, sha256: String::new(), in_use: true });
    let bytes = serialize(&table);
    let value: Value = serde_json::from_slice(&bytes).expect("JSON");
    assert_eq!(
        value,
        json!({"n": [{
            "created": "2026-08-01T10:00:00Z", "location": "/w/caches/tc-x/data", "hits": 3, "key": "n", "sha256": "",
            "in_use": true, "last_used": "2026-08-01T10:00:00Z",
        }]})
    );
    assert!(bytes.starts_with(b"{\n  \"n\": [\n") && bytes.ends_with(b"}\n"), "two spaces and a newline at the end");
}

#[test]
fn a_table_cannot_name_directories_that_are_not_caches() {
    for location in [
        "/",
        "/etc",
        "/w/caches",
        "/w/caches/",
        "/w/caches/..",
        "/w/caches/../tasks",
        "/w/caches/x/../../tasks",
        "/w/caches/trash-x",
        "/w/caches/tc-x",
        "/w/caches/tc-x/other",
        "/w/caches/tc-x.busy/data",
        "/w/caches/a/b",
        "/w/caches/directory-caches.json",
        "../elsewhere/caches/x",
        "",
    ] {
        let row = json!({"n": [{"created": "2026-08-01T10:00:00Z", "location": location}]});
        let (table, dropped) = read(&row.to_string());
        assert_eq!((table.entries().count(), dropped.len()), (0, 1), "{location:?}");
    }
    let twice = json!({"created": "2026-08-01T10:00:00Z", "location": "/w/caches/x"});
    let (table, dropped) = read(&json!({"a": [twice], "b": [twice]}).to_string());
    assert_eq!((table.entries().count(), dropped.len()), (1, 1));
}

#[test]
fn what_is_no_table_is_an_error_and_what_is_no_entry_is_left_out() {
    for text in ["", "[]", "{", "null", "{\"a\": [", "\u{0}"] {
        assert!(parse(text.as_bytes(), Path::new("/w/caches"), Path::new("/w")).is_err(), "{text:?}");
    }
    let text = r#"{"a": 1, "b": [{"created": "yesterday", "location": "/w/caches/x"}], "c": ["x"], "d": {}}"#;
    let (table, dropped) = read(text);
    assert_eq!((table.entries().count(), dropped.len()), (0, 4), "{dropped:?}");
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(
        rows in proptest::collection::vec((".{0,12}", 0..i64::from(i32::MAX), 0..u64::MAX, any::<bool>()), 0..20),
    ) {
        let mut table = Table::default();
        for (number, (name, secs, hits, in_use)) in rows.into_iter().enumerate() {
            let date = Timestamp::new(secs, 123_456_789).expect("a date");
            let location = PathBuf::from(format!("/w/caches/tc-{number}/data"));
            table.insert(&name, Entry { location, created: date, last_used: date, hits, sha256: String::new(), in_use });
        }
        let parsed = parse(&serialize(&table), Path::new("/w/caches"), Path::new("/w")).expect("a table");
        prop_assert_eq!(parsed.dropped, [""; 0]);
        prop_assert_eq!(parsed.table, table);
    }

    #[test]
    fn no_bytes_make_the_reader_fail_in_another_way(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        drop(parse(&bytes, Path::new("/w/caches"), Path::new("/w")));
    }
}
