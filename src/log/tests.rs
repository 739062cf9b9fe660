//! The log as a whole: one writer, readers, the seal.

use std::{io::Read as _, os::unix::fs::PermissionsExt as _, sync::Arc};

use flate2::read::GzDecoder;
use tc_engine::Sink as _;
use tempfile::TempDir;

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
