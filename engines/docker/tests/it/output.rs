//! What a container says arrives, byte by byte.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use tc_engine::{Exit, Sink};

use crate::support::{Collected, Rig, created, hosts, sh};

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_of_no_size_and_no_input() {
    for (name, host) in hosts("a_terminal_of_no_size_and_no_input") {
        let rig = Rig::new(&host).await;
        let script = "test -t 1 && test -t 2 && echo tty; echo $TERM; test -z \"$(stty size 2>/dev/null)\" && echo no size; echo out; echo err >&2; read -t 1 line; echo read $?";
        let (end, sink) = rig.perform(sh(&rig, script)).await;
        assert_eq!(end.expect("an end").exit, Exit::Code(0), "{name}: {}", sink.text());
        assert_eq!(sink.text(), "tty\r\nxterm\r\nno size\r\nout\r\nerr\r\nread 1\r\n", "{name}");
    }
}

/// Bytes that begin as the frames do that engines put around the output of containers without a terminal.
#[tokio::test(flavor = "multi_thread")]
async fn output_that_looks_like_frames_is_output() {
    for (name, host) in hosts("output_that_looks_like_frames_is_output") {
        let rig = Rig::new(&host).await;
        let chunks: [&[u8]; 9] = [
            b"\x00\x00\x00\x00\x00\x00\x00\x05hello",
            b"\x01\x00\x00\x00\x00\x00\x00\x03one",
            b"\x02\x00\x00\x00\x00\x00\x00\xfftoo long",
            b"\x02",
            b"\x01\x00\x00",
            b"\x00",
            b"\x00\x00\x00\x00\x00\x00\x00\x00",
            b"\x01",
            b"plain\x00end",
        ];
        let octal = |chunk: &[u8]| chunk.iter().map(|byte| format!("\\{byte:03o}")).collect::<Vec<_>>().concat();
        // Each chunk is read alone: the pause is the task's, not the test's.
        let script: Vec<_> = chunks.iter().map(|chunk| format!("printf '{}'; sleep 0.05", octal(chunk))).collect();
        let (end, sink) = rig.perform(sh(&rig, &script.join(";"))).await;
        assert_eq!(end.expect("an end").exit, Exit::Code(0), "{name}");
        assert_eq!(sink.bytes(), chunks.concat(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_words_are_heard() {
    for (name, host) in hosts("the_last_words_are_heard") {
        let rig = Rig::new(&host).await;
        for count in [1, 4000] {
            let (_, sink) = rig.perform(sh(&rig, &format!("seq 1 {count}"))).await;
            let lines: Vec<String> = sink.text().lines().map(str::to_owned).collect();
            assert_eq!((lines.len(), lines.last()), (count, Some(&count.to_string())), "{name}");
        }
        rig.assert_clean().await;
    }
}

/// Is busy for a while with the first bytes.
#[derive(Default)]
struct SlowStart(Collected);

impl Sink for SlowStart {
    fn write(&self, bytes: &[u8]) {
        if self.0.bytes().is_empty() {
            // The test is about a disk that is slow.
            std::thread::sleep(std::time::Duration::from_millis(700));
        }
        self.0.write(bytes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_still_under_way_at_the_end_is_heard() {
    for (name, host) in hosts("what_is_still_under_way_at_the_end_is_heard") {
        let rig = Rig::new(&host).await;
        let sandbox = created(rig.reserve().await.create(sh(&rig, "seq 1 4000")).await);
        let sink = Arc::new(SlowStart::default());
        let mut handle = sandbox.start(sink.clone());
        handle.run(0).await.expect("an end");
        assert!(sink.0.text().ends_with("\n4000\r\n"), "{name}: {} bytes", sink.0.bytes().len());
        handle.quiesce().await.expect("quiet").destroy(false).await.expect("gone");
    }
}

/// Counts, slowly if told so.
#[derive(Default)]
struct Counted(AtomicU64, u64);

impl Sink for Counted {
    fn write(&self, bytes: &[u8]) {
        self.0.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if self.1 > 0 {
            // The test is about a disk that is slow.
            std::thread::sleep(std::time::Duration::from_micros(self.1));
        }
    }
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_megabytes_take_no_memory() {
    for (name, host) in hosts("a_hundred_megabytes_take_no_memory") {
        let rig = Rig::new(&host).await;
        for slowly in [0, 300] {
            let sandbox = created(rig.reserve().await.create(sh(&rig, "head -c 104857600 /dev/zero")).await);
            let sink = Arc::new(Counted(AtomicU64::new(0), slowly));
            let mut handle = sandbox.start(sink.clone());
            let (before, began) = (resident_kib(), Instant::now());
            let end = handle.run(0).await.expect("an end");
            let (grown, took) = (resident_kib().saturating_sub(before), began.elapsed());
            println!("{name}: 100 MiB in {took:?} ({slowly} us per write), {grown} KiB more resident");
            assert_eq!((end.exit, sink.0.load(Ordering::Relaxed)), (Exit::Code(0), 100 << 20), "{name}");
            assert!(grown < 16 * 1024, "{name}: {grown} KiB");
            handle.quiesce().await.expect("quiet").destroy(false).await.expect("gone");
        }
    }
}
