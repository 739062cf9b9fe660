use std::time::{Duration, Instant};

use tc_engine::Exit;

use crate::support::{argv, benches, sh};

#[tokio::test(flavor = "multi_thread")]
async fn commands_run_in_order_and_so_does_their_output() {
    for bench in benches() {
        let commands = (0..20).map(|number| sh(&format!("echo out {number}; echo err {number} >&2"))).collect();
        let mut run = bench.start(commands).await;
        let mut seen = String::new();
        for number in 0..20 {
            assert_eq!(run.exit(number).await, Exit::Code(0));
            // It is there when the command has ended, not some time later.
            let expected = format!("{seen}out {number}\nerr {number}\n");
            seen = run.sink.text();
            assert_eq!(seen, expected, "{}", bench.name());
        }
        run.gone().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_megabytes_arrive_whole() {
    for bench in benches() {
        let mut run = bench.start(vec![sh("seq 1 6700000"), argv(&["printf", "end"])]).await;
        assert_eq!(run.exit(0).await, Exit::Code(0));
        assert_eq!(run.exit(1).await, Exit::Code(0));
        let bytes = run.sink.bytes();
        assert!(bytes.len() > 50_000_000);
        let mut lines = bytes.split(|byte| *byte == b'\n');
        for number in 1..=6_700_000_u32 {
            assert_eq!(lines.next(), Some(number.to_string().as_bytes()), "{}", bench.name());
        }
        assert_eq!(lines.next(), Some(&b"end"[..]));
        run.gone().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_text_arrive_as_they_are() {
    for bench in benches() {
        let mut run = bench.start(vec![sh(r"printf '\377\000\376no newline'")]).await;
        assert_eq!(run.exit(0).await, Exit::Code(0));
        assert_eq!(run.sink.bytes(), b"\xff\0\xfeno newline");
        run.gone().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_background_process_delays_no_command_and_still_reaches_the_log() {
    for bench in benches() {
        let first = "(while ! [ -e go ]; do sleep 0.01; done; echo late; touch done; sleep 1000) & echo $! > pid; echo first";
        let second = "touch go; while ! [ -e done ]; do sleep 0.01; done; echo second";
        let mut run = bench.start(vec![sh(first), sh(second)]).await;
        let begun = Instant::now();
        assert_eq!(run.exit(0).await, Exit::Code(0));
        assert!(begun.elapsed() < Duration::from_secs(20));
        assert_eq!(run.sink.text(), "first\n");
        assert_eq!(run.exit(1).await, Exit::Code(0));
        assert_eq!(run.sink.text(), "first\nlate\nsecond\n");
        let pid = run.pid("pid").await;
        run.gone().await;
        assert!(!crate::support::is_alive(pid));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn output_of_background_processes_until_their_death_is_kept() {
    for bench in benches() {
        let mut run = bench.start(vec![sh("(yes | head -c 300000; touch written; sleep 1000) & :")]).await;
        assert_eq!(run.exit(0).await, Exit::Code(0));
        let written = run.task_dir.join("written");
        crate::support::until(|| written.exists()).await;
        let sink = run.sink.clone();
        let quiet = run.quiet().await;
        assert_eq!(sink.bytes().len(), 300_000, "{}", bench.name());
        quiet.destroy(false).await.expect("gone");
    }
}
