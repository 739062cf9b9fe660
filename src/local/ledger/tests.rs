//! Records that survive, and files that are refused.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

const KIND: Kind = "fruit";

fn open(dir: &Path) -> Ledger {
    Ledger::open(dir).expect("a ledger")
}

fn refusal(dir: &Path) -> String {
    Ledger::open(dir).err().expect("a refusal").to_string()
}

fn text(ledger: &Ledger) -> Vec<(String, String)> {
    let records = ledger.load(KIND).expect("records");
    records.into_iter().map(|(key, bytes)| (key, String::from_utf8(bytes).expect("text"))).collect()
}

#[tokio::test]
async fn what_is_settled_is_there_again_and_what_was_removed_is_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path().join("data");
    let ledger = open(&dir);
    ledger.put(KIND, "apple", b"red".to_vec());
    ledger.put(KIND, "pear", b"green".to_vec());
    ledger.settled().await.expect("written");
    ledger.write(|batch| {
        batch.put_later(KIND, "apple", || b"yellow".to_vec());
        batch.remove(KIND, "pear");
        batch.remove(KIND, "plum");
    });
    ledger.settled().await.expect("written");
    assert_eq!(text(&ledger), [("apple".to_owned(), "yellow".to_owned())]);
    drop(ledger);
    let ledger = open(&dir);
    assert_eq!(text(&ledger), [("apple".to_owned(), "yellow".to_owned())]);
    assert!(ledger.load("nothing").expect("no records").is_empty());
    assert_eq!(dir.metadata().expect("a directory").permissions().mode() & 0o777, 0o700);
    assert_eq!(dir.join("ledger.redb").metadata().expect("a file").permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn without_a_directory_nothing_is_kept_and_nobody_waits() {
    let ledger = Ledger::memory();
    ledger.put(KIND, "apple", b"red".to_vec());
    ledger.room().await.expect("room");
    ledger.settled().await.expect("nothing to wait for");
    assert!(ledger.load(KIND).expect("no records").is_empty() && !ledger.keeps());
}

#[test]
fn a_directory_has_one_ledger_at_a_time() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = open(dir.path());
    assert!(refusal(dir.path()).contains("is in use by another queue"), "{}", refusal(dir.path()));
    first.close();
    drop(open(dir.path()));
}

#[test]
fn files_that_are_no_ledger_are_refused_and_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("ledger.redb");
    for content in [&b""[..], b"hello", &[0; 8192]] {
        std::fs::write(&path, content).expect("a file");
        let refusal = refusal(dir.path());
        assert!(refusal.contains("ledger.redb\" cannot be read: ") && refusal.contains("move it away"), "{refusal}");
        assert_eq!(std::fs::read(&path).expect("the file"), content);
    }
    std::fs::remove_file(&path).expect("removed");
    drop(open(dir.path()));
    let whole = std::fs::read(&path).expect("the file");
    for length in [1, 100, 5000, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).expect("a file");
        let refusal = refusal(dir.path());
        assert!(refusal.contains("ledger.redb\" cannot be read: ") && refusal.contains("move it away"), "{length}: {refusal}");
    }
    std::fs::remove_file(&path).expect("removed");
    let other = redb::Database::create(&path).expect("a file of the same kind");
    drop(other);
    assert!(refusal(dir.path()).contains("is no ledger of this program"));
}

#[test]
fn a_newer_format_is_refused_by_its_number() {
    let dir = tempfile::tempdir().expect("a directory");
    drop(open(dir.path()));
    let database = redb::Database::create(dir.path().join("ledger.redb")).expect("the file");
    let transaction = database.begin_write().expect("a transaction");
    let table = redb::TableDefinition::<&str, u32>::new("ledger");
    transaction.open_table(table).expect("the table").insert("format", 7).expect("written");
    transaction.commit().expect("committed");
    drop(database);
    let refusal = refusal(dir.path());
    assert!(refusal.contains("newer version") && refusal.contains("format is 7"), "{refusal}");
}

#[test]
fn a_file_that_cannot_be_written_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("file");
    std::fs::write(&path, "").expect("a file");
    let refusal = refusal(&path.join("data"));
    assert!(refusal.contains(&format!("data directory \"{}", path.display())), "{refusal}");
}
