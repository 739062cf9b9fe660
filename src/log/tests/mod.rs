//! The log as a whole: one writer, readers, the seal.

use std::{io::Read as _, os::unix::fs::PermissionsExt as _, sync::Arc};

use flate2::read::GzDecoder;
use proptest::prelude::*;
use tc_engine::Sink as _;
use tempfile::TempDir;

mod live;
mod loss;

use super::{LogOptions, LogReader, SealError, SealedLog, TaskLog};
use crate::seam::{Clock, SystemClock};

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

fn new_log() -> (TempDir, Arc<TaskLog>) {
    let dir = tempfile::tempdir().expect("a directory");
    let log = TaskLog::create(LogOptions::new(dir.path().join("spool"), "a", clock())).expect("a log");
    (dir, log)
}

fn plain(sealed: &SealedLog) -> Vec<u8> {
    let mut gzip = Vec::new();
    (&sealed.gzip).read_to_end(&mut gzip).expect("read");
    assert_eq!(gzip.len() as u64, sealed.gzip_bytes);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &gzip);
    assert_eq!(digest.as_ref(), sealed.gzip_sha256);
    let mut plain = Vec::new();
    let mut rest = &gzip[..];
    // Not the multi-member decoder: one member is the whole file.
    GzDecoder::new(&mut rest).read_to_end(&mut plain).expect("gzip");
    assert_eq!(plain.len() as u64, sealed.plain_bytes);
    plain
}

async fn read_all(mut reader: LogReader) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(piece) = reader.next().await.expect("read") {
        assert!(!piece.is_empty() && piece.len() <= 64 << 10);
        all.extend_from_slice(&piece);
    }
    all
}

#[tokio::test]
async fn a_line_of_the_worker_begins_a_line_and_bytes_of_the_task_stay() {
    let (_dir, log) = new_log();
    log.error("first");
    log.write(b"\xff\x00 half a line");
    log.error("second");
    log.write(b"whole line\n");
    log.error("third");
    let reader = log.reader();
    let sealed = log.seal().await.expect("seal");
    let expected =
        b"[taskcluster:error] first\n\xff\x00 half a line\n[taskcluster:error] second\nwhole line\n[taskcluster:error] third\n";
    assert_eq!(plain(&sealed), expected);
    assert_eq!(read_all(reader).await, expected);
    assert_eq!(sealed.lost_bytes, 0);
}

#[tokio::test]
async fn nothing_is_written_after_the_seal() {
    let (_dir, log) = new_log();
    log.write(b"a");
    let sealed = log.seal().await.expect("seal");
    log.write(b"b");
    log.info("c");
    assert_eq!(plain(&sealed), b"a");
    assert_eq!(read_all(log.reader()).await, b"a");
    assert!(matches!(log.seal().await, Err(SealError::Repeated)));
}

#[tokio::test]
async fn an_empty_log_is_a_gzip_file() {
    let (_dir, log) = new_log();
    let sealed = log.seal().await.expect("seal");
    assert_eq!(plain(&sealed), b"");
}

#[tokio::test]
async fn the_spool_is_private_and_vanishes() {
    let (dir, log) = new_log();
    let spool = dir.path().join("spool");
    let mode = |path: &std::path::Path| std::fs::metadata(path).expect("stat").permissions().mode() & 0o777;
    assert_eq!(mode(&spool), 0o700);
    assert_eq!(mode(&spool.join("a")), 0o600);
    log.write(&vec![b'x'; 3 << 20]);
    let _sealed = log.seal().await.expect("seal");
    let reader = log.reader();
    drop(log);
    assert_eq!(std::fs::read_dir(&spool).expect("list").count(), 0);
    assert_eq!(read_all(reader).await.len(), 3 << 20);
}

#[tokio::test]
async fn readers_follow_and_may_come_late() {
    let (_dir, log) = new_log();
    let mut early = log.reader();
    log.write(b"one");
    assert_eq!(early.next().await.expect("read").as_deref(), Some(&b"one"[..]));
    let waiting = tokio::spawn(async move { early.next().await });
    log.write(b"two");
    assert_eq!(waiting.await.expect("joined").expect("read").as_deref(), Some(&b"two"[..]));
    let waiting = tokio::spawn(read_all(log.reader()));
    log.seal().await.expect("seal");
    assert_eq!(waiting.await.expect("joined"), b"onetwo");
}

#[tokio::test]
async fn a_log_that_is_dropped_unsealed_ends_its_readers() {
    let (_dir, log) = new_log();
    log.write(b"a");
    let reading = tokio::spawn(read_all(log.reader()));
    drop(log);
    assert_eq!(reading.await.expect("joined"), b"a");
}

#[tokio::test]
async fn a_left_over_spool_is_replaced_and_names_are_checked() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("a"), b"of another life").expect("write");
    let log = TaskLog::create(LogOptions::new(dir.path(), "a", clock())).expect("a log");
    assert_eq!(log.len(), 0);
    for name in ["", "..", ".a", "a/b"] {
        assert!(TaskLog::create(LogOptions::new(dir.path(), name, clock())).is_err(), "{name:?}");
    }
}

#[tokio::test]
async fn the_plain_log_can_be_kept() {
    let (dir, log) = new_log();
    let kept = dir.path().join("task");
    std::fs::create_dir(&kept).expect("a directory");
    std::fs::write(kept.join("live_backing.log"), b"planted").expect("write");
    log.write(b"before ");
    log.keep_as(&kept.join("live_backing.log")).expect("kept");
    log.write(b"after");
    log.seal().await.expect("seal");
    drop(log);
    assert_eq!(std::fs::read(kept.join("live_backing.log")).expect("read"), b"before after");
}

#[tokio::test]
async fn a_planted_symlink_does_not_lead_the_kept_log_away() {
    let (dir, log) = new_log();
    let target = dir.path().join("target");
    std::fs::create_dir(&target).expect("a directory");
    std::fs::write(target.join("file"), b"precious").expect("write");
    let planted = dir.path().join("generic-worker");
    std::os::unix::fs::symlink(&target, &planted).expect("a symlink");
    log.write(b"x");
    assert!(log.keep_as(&planted.join("file")).is_err());
    // The last part is replaced, not followed.
    std::os::unix::fs::symlink(target.join("file"), dir.path().join("link")).expect("a symlink");
    log.keep_as(&dir.path().join("link")).expect("kept");
    assert_eq!(std::fs::read(target.join("file")).expect("read"), b"precious");
    assert_eq!(std::fs::read(dir.path().join("link")).expect("read"), b"x");
}

fn limited(head_bytes: u64, tail_bytes: u64) -> (TempDir, Arc<TaskLog>) {
    let dir = tempfile::tempdir().expect("a directory");
    let options = LogOptions { head_bytes, tail_bytes, ..LogOptions::new(dir.path(), "a", clock()) };
    (dir, TaskLog::create(options).expect("a log"))
}

#[tokio::test]
async fn a_log_over_its_limit_keeps_head_and_tail_and_counts_the_rest() {
    let (_dir, log) = limited(1000, 500);
    let lines: Vec<String> = (0..1000).map(|n| format!("line {n}\n")).collect();
    for line in &lines {
        log.write(line.as_bytes());
    }
    log.error("the end");
    let sealed = log.seal().await.expect("seal");
    let text = String::from_utf8(plain(&sealed)).expect("text");
    let all = lines.concat() + "[taskcluster:error] the end\n";
    assert!(text.starts_with(&all[..1000]), "{text}");
    let (note, kept) =
        text[1000..].split_once(" bytes of the log were dropped here; what follows is its end.\n").expect("a note");
    assert!(note.contains("has reached its limit of 1000 bytes"), "{note}");
    let dropped: usize = note.rsplit(' ').next().expect("a number").parse().expect("a number");
    assert_eq!(dropped as u64, sealed.dropped_bytes);
    assert_eq!(1000 + dropped + kept.len(), all.len());
    assert_eq!(kept, &all[1000 + dropped..]);
    assert!(kept.len() > 450 && kept.starts_with("line "), "{kept}");
    assert_eq!(sealed.lost_bytes, 0);
    assert_eq!(read_all(log.reader()).await, text.as_bytes());
}

#[tokio::test]
async fn a_log_just_over_its_limit_loses_nothing() {
    let (_dir, log) = limited(10, 100);
    log.write(b"0123456789ab\n");
    log.error("x");
    let text = String::from_utf8(plain(&log.seal().await.expect("seal"))).expect("text");
    let (head, rest) = text.split_once("\n[taskcluster:warn ").expect("a note on a line of its own");
    assert_eq!(head, "0123456789");
    assert!(rest.ends_with(" when the task ends.\nab\n[taskcluster:error] x\n"), "{rest}");
    assert!(!text.contains("dropped"));
}

#[derive(Debug, Clone)]
enum Step {
    Write(Vec<u8>),
    Error(String),
    Reader,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::vec(prop::sample::select(b"ab\n\xff".to_vec()), 0..300).prop_map(Step::Write),
        // Across blocks and windows of the compressor.
        1 => (0_usize..500_000, any::<u8>()).prop_map(|(len, seed)| {
            Step::Write((0..len).map(|n| (n / 7 * usize::from(seed)).to_le_bytes()[0]).collect())
        }),
        3 => "[a-z\n]{0,40}".prop_map(Step::Error),
        2 => Just(Step::Reader),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn every_reader_and_the_sealed_log_have_exactly_what_was_written(steps in prop::collection::vec(step(), 0..40)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (_dir, log) = new_log();
            let mut expected = Vec::new();
            let mut readers = vec![tokio::spawn(read_all(log.reader()))];
            for step in steps {
                match step {
                    Step::Write(bytes) => {
                        log.write(&bytes);
                        expected.extend(bytes);
                    }
                    Step::Error(message) => {
                        log.error(&message);
                        if !expected.is_empty() && !expected.ends_with(b"\n") {
                            expected.push(b'\n');
                        }
                        for line in message.split('\n') {
                            expected.extend(format!("[taskcluster:error] {line}\n").into_bytes());
                        }
                    }
                    Step::Reader => readers.push(tokio::spawn(read_all(log.reader()))),
                }
            }
            let sealed = log.seal().await.expect("seal");
            assert!(plain(&sealed) == expected);
            readers.push(tokio::spawn(read_all(log.reader())));
            for reader in readers {
                assert!(reader.await.expect("joined") == expected);
            }
        });
    }
}

#[tokio::test]
async fn writers_of_all_kinds_at_once_never_tear_a_line() {
    let (_dir, log) = new_log();
    std::thread::scope(|scope| {
        for name in ["a", "b"] {
            let log = &log;
            scope.spawn(move || (0..500).for_each(|n| log.error(&format!("{name} {n}"))));
        }
        scope.spawn(|| (0..500).for_each(|n| log.write(format!("c {n}\n").as_bytes())));
    });
    let text = String::from_utf8(plain(&log.seal().await.expect("seal"))).expect("text");
    for prefix in ["[taskcluster:error] a ", "[taskcluster:error] b ", "c "] {
        let numbers: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix(prefix)).collect();
        assert_eq!(numbers, (0..500).map(|n| n.to_string()).collect::<Vec<_>>());
    }
    assert_eq!(text.lines().count(), 1500);
}
