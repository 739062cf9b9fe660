//! A full disk: a small tmpfs. Needs the right to mount; where that is missing, a private user namespace would be needed, and
//! these tests say that they did nothing.

use std::{io::Write as _, path::Path, process::Command, sync::Arc, time::Duration};

use tc_engine::Sink as _;
use tempfile::TempDir;

use super::{clock, plain, read_all};
use crate::log::{LogOptions, TaskLog};

struct SmallDisk(TempDir);

impl SmallDisk {
    fn new(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory");
        let options = format!("size={size},mode=755");
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(dir.path()).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(dir));
        }
        eprintln!("not run: no right to mount a small disk");
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// What a task does that fills the disk.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.path().join("full")).expect("a file");
        while file.write_all(&[0; 4096]).is_ok() {}
        assert!(file.write(&[0]).is_err());
    }

    fn log(&self) -> Arc<TaskLog> {
        TaskLog::create(LogOptions::new(self.path().join("spool"), "a", clock())).expect("a log")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_is_a_loss_and_the_last_lines_are_stored_all_the_same() {
    let Some(disk) = SmallDisk::new("4m") else { return };
    let log = disk.log();
    log.error("begin");
    let waiting = tokio::spawn({
        let log = Arc::clone(&log);
        async move { log.lost().await }
    });
    disk.fill();
    let piece = [b'x'; 10_000];
    for _ in 0..200 {
        log.write(&piece);
    }
    let reason = tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("told").expect("joined");
    assert!(reason.contains("No space left"), "{reason}");
    let lost = log.lost_bytes();
    log.tell_losses();
    log.error("the last line");
    let reader = log.reader();
    let sealed = log.seal().await.expect("sealed on a full disk");
    let text = String::from_utf8(plain(&sealed)).expect("text");
    let stored = text.matches('x').count() as u64
        - text.lines().filter(|line| line.starts_with('[')).fold(0, |n, line| n + line.matches('x').count() as u64);
    assert_eq!(stored + lost, 2_000_000);
    assert_eq!(sealed.lost_bytes, lost);
    assert!(
        text.contains(&format!("] {lost} bytes that the task wrote are missing from this log")),
        "{}",
        &text[text.len() - 800..]
    );
    assert!(text.ends_with("\n[taskcluster:error] the last line\n"), "{}", &text[text.len() - 800..]);
    assert_eq!(read_all(reader).await, text.as_bytes());
}

#[tokio::test]
async fn a_large_log_on_a_full_disk_is_sealed() {
    let Some(disk) = SmallDisk::new("24m") else { return };
    let log = disk.log();
    let line = (0..1000).map(|n| (n * n).to_string()).collect::<Vec<_>>().join(" ");
    let mut written = 0;
    for n in 0..2000 {
        let line = format!("{n} {line}\n");
        written += line.len() as u64;
        log.write(line.as_bytes());
    }
    disk.fill();
    let sealed = log.seal().await.expect("sealed on a full disk");
    assert_eq!(plain(&sealed).len() as u64, written);
}

#[tokio::test]
async fn a_log_that_fills_the_disk_alone_tells_how_much_is_missing() {
    let Some(disk) = SmallDisk::new("8m") else { return };
    let log = disk.log();
    for _ in 0..1000 {
        log.write(&[b'z'; 16 << 10]);
    }
    assert!(log.lost_bytes() > 0);
    let sealed = log.seal().await.expect("sealed");
    let text = String::from_utf8(plain(&sealed)).expect("text");
    let z = text.matches('z').count() as u64;
    assert_eq!(z + sealed.lost_bytes, 1000 * (16 << 10));
    assert!(text.trim_end().lines().last().expect("a line").contains("are missing from this log"));
}

#[tokio::test]
async fn lines_of_the_worker_alone_are_no_loss() {
    let Some(disk) = SmallDisk::new("1m") else { return };
    let log = disk.log();
    log.write(b"all that the task wrote\n");
    disk.fill();
    for n in 0..1000 {
        log.error(&format!("line {n}"));
    }
    let reader = log.reader();
    let sealed = log.seal().await.expect("sealed");
    assert_eq!(sealed.lost_bytes, 0);
    let text = String::from_utf8(plain(&sealed)).expect("text");
    assert_eq!(text.lines().count(), 1001);
    assert!(text.ends_with("\n[taskcluster:error] line 999\n"));
    assert_eq!(read_all(reader).await, text.as_bytes());
}
