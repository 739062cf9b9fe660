use std::{ffi::OsString, fs, os::unix::fs::PermissionsExt, time::Duration};

use tc_engine::{Exit, StopReason};

use crate::support::{argv, benches, is_alive, sh};

#[tokio::test(flavor = "multi_thread")]
async fn exits_and_signals_are_told_apart() {
    for bench in benches() {
        let mut run = bench.start(vec![sh("exit 7"), sh("kill -TERM $$"), sh("kill -9 $$"), sh("exit 255")]).await;
        assert_eq!(run.exit(0).await, Exit::Code(7));
        assert_eq!(run.exit(1).await, Exit::Signal(15));
        assert_eq!(run.exit(2).await, Exit::Signal(9));
        assert_eq!(run.exit(3).await, Exit::Code(255));
        run.gone().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_finds_its_surroundings_in_order() {
    // A signal that this process ignores, a closed descriptor too few, a mask: none of it may get through.
    for bench in benches() {
        let script = "pwd; readlink /proc/self/fd/0; ls /proc/self/fd | tr '\\n' ' '; echo; \
                      grep -E 'SigBlk|SigIgn' /proc/self/status; \
                      [ \"$(cut -d' ' -f5 /proc/$$/stat)\" = $$ ] && echo own group; \
                      (: </dev/tty) 2>/dev/null || echo no terminal; cat /proc/self/oom_score_adj; env | sort";
        let mut run = bench.start_with(vec![sh(script)], |plan| drop(plan.env.insert("A".into(), "b c".into()))).await;
        assert_eq!(run.exit(0).await, Exit::Code(0));
        let expected = format!(
            "{dir}\n/dev/null\n0 1 2 3 \nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\nown group\nno terminal\n0\n\
             A=b c\nPATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin\nPWD={dir}\n",
            dir = run.task_dir.display()
        );
        assert_eq!(run.sink.text(), expected, "{}", bench.name());
        run.gone().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_started_says_why() {
    for bench in benches() {
        let long = "x".repeat(3_000_000);
        let commands = vec![
            argv(&["no-such-program"]),
            argv(&["/no/such/program"]),
            argv(&["./script"]),
            argv(&["./not-executable"]),
            argv(&["/"]),
            argv(&["./garbage"]),
            argv(&[""]),
            argv(&["true", &long]),
            argv(&["a\0b"]),
            argv(&["garbage"]),
            argv(&["directory"]),
            argv(&["script"]),
            sh("echo still works"),
        ];
        let mut run = bench
            .start_with(commands, |plan| drop(plan.env.insert("PATH".into(), "/nonexistent:.:/usr/bin:/bin".into())))
            .await;
        let write = |name: &str, content: &str, mode| {
            let path = run.task_dir.join(name);
            fs::write(&path, content).expect("written");
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
        };
        write("script", "#!/no/such/interpreter\n", 0o755);
        write("not-executable", "#!/bin/sh\n", 0o644);
        write("garbage", "\u{1}\u{2}\u{3}", 0o755);
        fs::create_dir(run.task_dir.join("directory")).expect("made");
        let expected = [
            "exec: \"no-such-program\": executable file not found in $PATH",
            "fork/exec /no/such/program: no such file or directory",
            "fork/exec ./script: no such file or directory",
            "fork/exec ./not-executable: permission denied",
            "fork/exec /: permission denied",
            "fork/exec ./garbage: exec format error",
            "exec: \"\": executable file not found in $PATH",
            "fork/exec /usr/bin/true: argument list too long",
            "exec: argument 0 of the command contains a NUL byte, which no program can be given",
            "fork/exec ./garbage: exec format error",
            "exec: \"directory\": executable file not found in $PATH",
            "fork/exec ./script: no such file or directory",
        ];
        for (index, text) in expected.into_iter().enumerate() {
            assert_eq!(run.exit(index).await, Exit::NotStarted(text.into()), "{} {index}", bench.name());
        }
        assert_eq!(run.exit(expected.len()).await, Exit::Code(0));
        assert_eq!(run.sink.text(), "still works\n");
        run.gone().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_looked_up_when_the_command_starts() {
    for bench in benches() {
        let make = "/bin/mkdir bin; printf '#!/bin/sh\\necho made' > bin/tool; /bin/chmod +x bin/tool";
        let fallback = OsString::from("/usr/bin:/bin");
        let mut run = bench
            .start_with(vec![sh(make), argv(&["tool"]), argv(&["sh", "-c", "echo fallback"])], |plan| {
                plan.env.insert("PATH".into(), "bin".into());
                plan.fallback_path = Some(fallback);
            })
            .await;
        for index in 0..3 {
            assert_eq!(run.exit(index).await, Exit::Code(0), "{index}");
        }
        assert_eq!(run.sink.text(), "made\nfallback\n");
        run.gone().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nul_byte_in_the_environment_is_refused() {
    for bench in benches() {
        let mut run = bench.start_with(vec![sh(":")], |plan| drop(plan.env.insert("A".into(), "x\0".into()))).await;
        let Exit::NotStarted(text) = run.exit(0).await else { panic!("it started") };
        assert!(text.contains("\"A\" contains a NUL byte"), "{text}");
        run.gone().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_may_remove_its_directory() {
    for bench in benches() {
        let mut run = bench.start(vec![sh("rm -rf \"$PWD\"; echo removed"), sh("echo unreachable")]).await;
        assert_eq!(run.exit(0).await, Exit::Code(0));
        let text = format!("chdir {}: no such file or directory", run.task_dir.display());
        assert_eq!(run.exit(1).await, Exit::NotStarted(text));
        run.gone().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn processor_time_is_that_of_the_command() {
    for bench in benches() {
        let mut run = bench.start(vec![sh("i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done")]).await;
        let end = run.handle.run(0).await.expect("ran");
        assert!(end.user > Duration::from_millis(20), "{end:?}");
        assert!(end.wall >= end.user / 2, "{end:?}");
        run.gone().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_asks_first_when_there_is_time() {
    for bench in benches() {
        let script = "trap 'echo asked; exit 3' TERM; touch ready; while :; do sleep 0.01; done";
        let mut run = bench.start(vec![sh(script), sh("echo too late")]).await;
        let ready = run.task_dir.join("ready");
        let running = tokio::time::timeout(Duration::from_secs(60), async {
            let waiting = crate::support::until(|| ready.exists());
            tokio::select! { biased; end = run.handle.run(0) => panic!("it ended: {end:?}"), () = waiting => {} }
        });
        running.await.expect("in time");
        run.handle.stop(StopReason::MaxRunTime, Duration::from_secs(30)).await;
        assert!(run.handle.run(1).await.is_err(), "nothing starts in a stopped run");
        let sink = run.sink.clone();
        run.gone().await;
        // A shell may also tell how its own child ended.
        assert!(sink.text().ends_with("asked\n"), "{}: {}", bench.name(), sink.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_without_grace_kills_at_once() {
    for bench in benches() {
        let script = "trap '' TERM INT HUP; echo $$ > pid; sleep 1000 & sleep 1000";
        let mut run = bench.start(vec![sh(script)]).await;
        let pid_file = run.task_dir.join("pid");
        {
            let has_pid = crate::support::until(|| fs::metadata(&pid_file).is_ok_and(|file| file.len() > 1));
            tokio::select! { biased; end = run.handle.run(0) => panic!("it ended: {end:?}"), () = has_pid => {} }
        }
        let pid = run.pid("pid").await;
        assert!(is_alive(pid));
        run.handle.stop(StopReason::Canceled, Duration::ZERO).await;
        assert!(!is_alive(pid), "{}", bench.name());
        run.gone().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_is_abandoned_leaves_nothing() {
    for bench in benches() {
        for _ in 0..20 {
            let mut run = bench.start(vec![sh("echo $$ > pid; sleep 1000")]).await;
            // Polled once: the start is under way.
            tokio::select! { biased; () = async {
                tokio::select! { biased; _ = run.handle.run(0) => {}, () = std::future::ready(()) => {} }
            } => {} }
            run.handle.stop(StopReason::Canceled, Duration::ZERO).await;
            let pid = fs::read_to_string(run.task_dir.join("pid")).ok().and_then(|text| text.trim().parse().ok());
            assert!(!pid.is_some_and(is_alive), "{}", bench.name());
            run.gone().await;
        }
    }
}
