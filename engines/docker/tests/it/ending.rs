//! How containers end: by themselves, by signals, for want of memory, on request.

use std::time::{Duration, Instant};

use tc_engine::{ContainerPlan, Exit, Limits, StopReason};

use crate::support::{Rig, created, hosts, plan, sh};

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_are_those_of_the_command() {
    for (name, host) in hosts("exit_codes_are_those_of_the_command") {
        let rig = Rig::new(&host).await;
        for (script, code) in [
            ("exit 0", 0),
            ("exit 125", 125),
            ("exit 126", 126),
            ("exit 127", 127),
            ("exit 255", 255),
            ("kill -9 $$; exit 3", 3),
        ] {
            let (end, sink) = rig.perform(sh(&rig, script)).await;
            let end = end.expect("an end");
            assert_eq!((end.exit, end.out_of_memory), (Exit::Code(code), false), "{name}: {script}: {}", sink.text());
            assert!(end.wall < Duration::from_secs(20) && end.wall > Duration::ZERO);
        }
        rig.assert_clean().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn want_of_memory_is_known() {
    for (name, host) in hosts("want_of_memory_is_known") {
        let rig = Rig::new(&host).await;
        let limits = Limits { memory_bytes: Some(24 << 20), millicpus: None, pids: Some(20) };
        let container = ContainerPlan { limits, ..rig.container() };
        // tail keeps a line without an end in memory.
        let (end, _) = rig.perform(plan(container, &["tail", "-n", "1", "/dev/zero"])).await;
        let end = end.expect("an end");
        assert_eq!((end.exit, end.out_of_memory), (Exit::Code(137), true), "{name}");
        rig.assert_clean().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_detached_dies_with_the_command() {
    for (name, host) in hosts("what_was_detached_dies_with_the_command") {
        let rig = Rig::new(&host).await;
        let (end, sink) = rig.perform(sh(&rig, "setsid sh -c 'trap \"\" TERM HUP; sleep 987654' & sleep 0.1; echo done")).await;
        assert_eq!((end.expect("an end").exit, sink.text().as_str()), (Exit::Code(0), "done\r\n"), "{name}");
        let alive = std::fs::read_dir("/proc")
            .expect("processes")
            .filter_map(Result::ok)
            .any(|entry| std::fs::read(entry.path().join("cmdline")).is_ok_and(|line| line == b"sleep\x00987654\x00"));
        assert!(!alive, "{name}");
        rig.assert_clean().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_with_grace_lets_it_say_goodbye() {
    for (name, host) in hosts("a_stop_with_grace_lets_it_say_goodbye") {
        let rig = Rig::new(&host).await;
        let script = "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.05; done";
        let (mut handle, sink) = rig.start(sh(&rig, script)).await;
        tokio::select! {
            biased; // It does not end by itself.
            end = handle.run(0) => panic!("{name}: {end:?}"),
            () = sink.shows("ready") => {}
        }
        handle.stop(StopReason::WorkerShutdown, Duration::from_secs(10)).await;
        let quiet = handle.quiesce().await.expect("quiet");
        assert_eq!(sink.text(), "ready\r\nbye\r\n", "{name}");
        quiet.destroy(false).await.expect("gone");
        rig.assert_clean().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_listen_is_killed() {
    for (name, host) in hosts("who_does_not_listen_is_killed") {
        let rig = Rig::new(&host).await;
        for grace in [Duration::ZERO, Duration::from_millis(600)] {
            let script = "trap '' TERM INT HUP; echo ready; while :; do sleep 0.05; done";
            let (mut handle, sink) = rig.start(sh(&rig, script)).await;
            tokio::select! {
                biased; // It does not end by itself.
                end = handle.run(0) => panic!("{name}: {end:?}"),
                () = sink.shows("ready") => {}
            }
            let began = Instant::now();
            handle.stop(StopReason::MaxRunTime, grace).await;
            assert!(began.elapsed() < Duration::from_secs(8), "{name}: {:?}", began.elapsed());
            assert!(handle.run(0).await.is_err(), "{name}: nothing starts after a stop");
            handle.quiesce().await.expect("quiet").destroy(false).await.expect("gone");
        }
        rig.assert_clean().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_given_up_at_any_moment_leaves_nothing() {
    for (name, host) in hosts("a_run_that_is_given_up_at_any_moment_leaves_nothing") {
        let rig = Rig::new(&host).await;
        rig.reserve().await.quiesce().await.destroy(false).await.expect("gone");
        rig.assert_clean().await;
        let sandbox = created(rig.reserve().await.create(sh(&rig, "sleep 600")).await);
        sandbox.quiesce().await.destroy(false).await.expect("gone");
        rig.assert_clean().await;
        let (handle, _) = rig.start(sh(&rig, "sleep 600")).await;
        handle.quiesce().await.expect("quiet").destroy(false).await.expect("gone");
        rig.assert_clean().await;
        for millis in [0, 1, 3, 10, 30, 100, 300] {
            let (mut handle, _) = rig.start(sh(&rig, "sleep 600")).await;
            // Not a wait for something: the moment is what varies.
            drop(tokio::time::timeout(Duration::from_millis(millis), handle.run(0)).await);
            if millis % 2 == 0 {
                handle.stop(StopReason::Canceled, Duration::ZERO).await;
            }
            handle.quiesce().await.expect("quiet").destroy(false).await.expect("gone");
            assert_eq!(rig.left().await, Vec::<String>::new(), "{name}: after {millis} ms");
        }
        rig.assert_clean().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_dropped_is_removed() {
    for (name, host) in hosts("a_run_that_is_dropped_is_removed") {
        let rig = Rig::new(&host).await;
        let (mut handle, sink) = rig.start(sh(&rig, "echo ready; sleep 600")).await;
        tokio::select! {
            biased; // It does not end by itself.
            end = handle.run(0) => panic!("{name}: {end:?}"),
            () = sink.shows("ready") => {}
        }
        drop(handle);
        let deadline = Instant::now() + Duration::from_secs(30);
        while !rig.left().await.is_empty() {
            assert!(Instant::now() < deadline, "{name}: {:?}", rig.left().await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
