//! Reading of JSON and YAML.

use std::fmt::Write;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::{Value, json};
use tc_payload::{Document, MAX_DEPTH, MAX_DOCUMENT_BYTES, Place, Repeats};

fn parse(text: &str) -> Value {
    Document::parse("f", text.as_bytes()).unwrap().into_value()
}

fn refuse(text: &[u8]) -> String {
    Document::parse("f", text).unwrap_err().to_string()
}

#[test]
fn the_first_character_decides_the_syntax() {
    // Surrogate pairs and tabs are where YAML readers stumble over JSON.
    assert_eq!(parse("\u{feff} {\"a\":\t\"\\ud83d\\ude00\", \"b\": 1e5}"), json!({"a": "😀", "b": 1e5}));
    assert_eq!(parse("a: \"x\"\nb: 1e5\n"), json!({"a": "x", "b": 1e5}));
    assert!(refuse(b"{a: 1}").starts_with("f:1:2: invalid JSON: "));
}

#[test]
fn yaml_is_read_in_the_sense_of_1_2() {
    let value = parse(
        "yes: no\non: off\nbig: 1_000\nmode: 0755\nhex: 0x10\nnone: ~\ndate: 2030-01-01T00:00:00Z\n1: one\ntext: |\n  a\n  b\nt: True\nv: 1.0\n\
         base: &b {x: 1}\ncopy: *b\nmerged: {<<: *b, y: 2}\n",
    );
    let expected = json!({
        "yes": "no", "on": "off", "big": "1_000", "mode": "0755", "hex": 16, "none": null, "date": "2030-01-01T00:00:00Z", "1": "one",
        "text": "a\nb\n", "t": true, "v": 1.0, "base": {"x": 1}, "copy": {"x": 1}, "merged": {"x": 1, "y": 2},
    });
    assert_eq!(value, expected);
    assert_eq!(parse("# c\n---\na: 1\n...\n"), json!({"a": 1}));
    assert_eq!(parse("# only a comment\n"), json!(null));
    assert!(refuse(b"a: 1\n~: 2\n").starts_with("f:2:1: invalid YAML: "));
}

#[test]
fn what_cannot_be_read_is_said_with_its_place() {
    assert_eq!(refuse(b""), "f: is empty");
    assert_eq!(refuse(b" \n\n"), "f: is empty");
    assert_eq!(refuse("ok: 1\nä: \u{1}".as_bytes()).split(' ').next(), Some("f:2:4:"));
    assert_eq!(refuse(b"a: b\nb: \xff"), "f:2:4: is not UTF-8: byte 0xff cannot stand here");
    assert_eq!(refuse(b"{\"a\": 1,\n \"\\u0061\": 2}"), "f:2:2: the key \"a\" stands twice in the same object");
    assert_eq!(refuse(b"a: 1\nb: 2\na: 3\n"), "f:3:1: the key \"a\" stands twice in the same mapping");
    assert_eq!(refuse(b"a: 1\n---\nb: 2\n"), "f:3:1: holds more than one YAML document");
    assert!(refuse("{\"ä\": tru}".as_bytes()).starts_with("f:1:"));
    assert!(refuse(b"a: .inf").starts_with("f:1:4: invalid YAML: "));
    assert!(refuse(b"{\"a\": 1e999}").starts_with("f:1:"));
    assert!(refuse(b"a: *x").starts_with("f:1:4: invalid YAML: "));
    let long = vec![b' '; MAX_DOCUMENT_BYTES + 1];
    assert_eq!(refuse(&long), "f: has 10485761 bytes; at most 10485760 are read");
}

#[test]
fn nesting_is_bounded() {
    for depth in [MAX_DEPTH + 1, 1_000_000] {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let closed = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            assert!(refuse(closed.as_bytes()).contains("is nested deeper than 100 levels"));
        }
        for yaml in ["- ".repeat(depth), format!("a: {}", "[".repeat(depth)), format!("a: {}", "{a: ".repeat(depth))] {
            let said = refuse(yaml.as_bytes());
            assert!(said.starts_with("f:1:") && said.ends_with(": is nested deeper than 100 levels"), "{said}");
        }
    }
    let most = format!("{}{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH));
    parse(&most);
    parse(&format!("a: {}", &most[1..most.len() - 1]));
}

#[test]
fn alias_bombs_are_refused() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let tenfold = vec![format!("*a{}", level - 1); 10].join(", ");
        let _ = writeln!(text, "a{level}: &a{level} [{tenfold}]");
    }
    let started = Instant::now();
    assert!(refuse(text.as_bytes()).contains("invalid YAML"));
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn places_are_those_of_the_text() {
    let yaml = Document::parse("f", "a:\n  - b: x\n    \"ä/c\": [1, 22]\nd: &k {e: 1}\nf: *k\n".as_bytes()).unwrap();
    let json = Document::parse("f", "{ \"a\": [\n {\"b\": \"x\",\n  \"ä/c\": [1, 22]} ] }".as_bytes()).unwrap();
    let place = |line, column| Some(Place { line, column });
    assert_eq!(yaml.place(""), place(1, 1));
    assert_eq!(yaml.place("/a/0/b"), place(2, 8));
    assert_eq!(yaml.place("/a/0/ä~1c/1"), place(3, 16));
    assert_eq!(yaml.place("/f"), place(5, 4));
    assert_eq!(json.place(""), place(1, 1));
    assert_eq!(json.place("/a/0"), place(2, 2));
    assert_eq!(json.place("/a/0/b"), place(2, 8));
    assert_eq!(json.place("/a/0/ä~1c/1"), place(3, 14));
    // What is not there is looked for as far as it goes.
    assert_eq!(json.place("/a/0/zz/1"), place(2, 2));
    assert_eq!(json.line(2), Some(" {\"b\": \"x\","));
}

#[test]
fn repeated_keys_can_be_merged() {
    for text in [
        "{\"a\": {\"x\": 1, \"z\": [1]}, \"b\": 1, \"a\": {\"y\": 2, \"z\": [2]}, \"b\": 2}",
        "a: {x: 1, z: [1]}\nb: 1\na: {y: 2, z: [2]}\nb: 2\n",
    ] {
        let document = Document::parse_with("f", text.as_bytes(), Repeats::Merge).unwrap();
        assert_eq!(*document.value(), json!({"a": {"x": 1, "y": 2, "z": [2]}, "b": 2}));
    }
}

/// Ten megabytes of JSON are parsed, refused and explained; an optimized build needs half a second. The bound is about the order of
/// growth, in a debug build on a busy machine. YAML is an order slower, so less of it must do.
#[test]
fn large_documents_are_read_in_bounded_time() {
    let item = r#"{"name":"value","n":1}"#;
    let json = format!("{{\"command\":[{}]}}", vec![item; 430_000].join(","));
    assert!(json.len() > 9_000_000 && json.len() <= MAX_DOCUMENT_BYTES);
    let yaml = format!("command:\n{}", "- name: some value\n  n: 1\n".repeat(20_000));
    for text in [json, yaml] {
        let started = Instant::now();
        let document = Document::parse("f", text.as_bytes()).unwrap();
        let mut problems = tc_payload::native::check(document.value()).unwrap_err();
        tc_payload::apply_places(&mut problems, &document, "");
        assert!(problems.len() < 600 && problems.last().unwrap().message.contains("more problems"));
        assert!(problems.iter().all(|problem| problem.place.is_some()));
        assert!(started.elapsed() < Duration::from_secs(60));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for repeats in [Repeats::Refuse, Repeats::Merge] {
            if let Ok(document) = Document::parse_with("f", &bytes, repeats) {
                document.place("/a/0");
            }
        }
    }

    #[test]
    fn no_text_panics(text in "[-a-c:\\[\\]{}&*!|>'\"#%@, \n\t0-9.~<ä\\\\]{0,80}") {
        for repeats in [Repeats::Refuse, Repeats::Merge] {
            if let Ok(document) = Document::parse_with("f", text.as_bytes(), repeats) {
                document.place("/a/0");
                document.place("");
            }
        }
    }
}
