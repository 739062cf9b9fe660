use std::{fs, io::Read, os::unix::fs::symlink};

use tc_engine::{Content, Engine, Entry, EntryFault, Kind, Quiet};
use tc_engine_native::Containment;

use crate::support::{Bench, LONG, bench, sh};

async fn quiet_after(bench: &Bench, script: &str) -> Box<dyn Quiet> {
    let mut run = bench.start(vec![sh(script)]).await;
    assert!(run.exit(0).await.is_success(), "{}", run.sink.text());
    run.quiet().await
}

fn told(entry: Entry) -> String {
    let content = match entry.content {
        Ok(Content::File(mut open)) => {
            let mut text = String::new();
            open.file.read_to_string(&mut text).expect("read");
            assert_eq!(text.len() as u64, open.bytes);
            text
        }
        Ok(other) => panic!("{other:?} is no open file"),
        Err(EntryFault::Missing) => "-missing".into(),
        Err(EntryFault::IsDirectory) => "-is directory".into(),
        Err(EntryFault::NotDirectory) => "-not directory".into(),
        Err(EntryFault::Special(what)) => format!("-{what}"),
        Err(EntryFault::Outward) => "-outward".into(),
        Err(EntryFault::Above) => "-above".into(),
        Err(EntryFault::Unreadable(error)) => format!("-{error}"),
        Err(EntryFault::Lost(why)) => format!("-lost: {why}"),
    };
    format!("{}={content}", entry.relative)
}

async fn read(quiet: &dyn Quiet, path: &str, kind: Kind) -> Vec<String> {
    let mut entries = quiet.read(path, kind);
    let mut told_entries = Vec::new();
    while let Some(entry) = tokio::time::timeout(LONG, entries.recv()).await.expect("no hang") {
        told_entries.push(told(entry));
    }
    told_entries
}

const TREE: &str = "mkdir -p out/a out/b.d empty; echo -n 1 > out/a/file; echo -n 2 > out/a.txt; echo -n 3 > out/b.d/x; \
     mkfifo out/fifo; ln -s a.txt out/inside; ln -s a out/to-directory; ln -s nothing out/dangling; \
     ln -s /etc/passwd out/outward; ln -s ../../x out/outward2; ln -s \"$PWD/out/a.txt\" out/absolute; \
     printf 4 > \"$(printf 'out/name\\377')\"; ln -s out by-link; ln -s / away; ln -s out/fifo to-fifo";

#[tokio::test(flavor = "multi_thread")]
async fn directories_are_read_in_order_and_nothing_leads_out() {
    let bench = bench(Containment::Reaper).expect("an engine");
    let quiet = quiet_after(&bench, TREE).await;
    let expected = [
        "a/file=1",
        "a.txt=2",
        "absolute=2",
        "b.d/x=3",
        "dangling=-missing",
        "fifo=-named pipe",
        "inside=2",
        "name\u{fffd}=-its name is not valid UTF-8",
        "outward=-outward",
        "outward2=-outward",
        "to-directory=-is directory",
    ];
    for path in ["out", "./out/", "by-link", "out/../out"] {
        assert_eq!(read(&*quiet, path, Kind::Directory).await, expected, "{path}");
    }
    assert_eq!(read(&*quiet, "empty", Kind::Directory).await, [""; 0]);
    assert_eq!(read(&*quiet, "out/a.txt", Kind::Directory).await, ["=-not directory"]);
    assert_eq!(read(&*quiet, "none", Kind::Directory).await, ["=-missing"]);
    assert_eq!(read(&*quiet, "away", Kind::Directory).await, ["=-outward"]);
    // A link leads out, or the path itself does: the author hears which.
    for path in ["..", "out/../../x"] {
        assert_eq!(read(&*quiet, path, Kind::Directory).await, ["=-above"], "{path}");
    }
    quiet.destroy(false).await.expect("gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_read_without_hanging_or_leaking() {
    let bench = bench(Containment::Reaper).expect("an engine");
    let outside = bench.dir.path().join("outside");
    fs::create_dir(&outside).expect("made");
    fs::write(outside.join("file"), "5").expect("written");
    symlink("file", outside.join("link")).expect("linked");
    symlink("/etc/hostname", outside.join("outward")).expect("linked");
    let quiet = quiet_after(&bench, TREE).await;
    for (path, expected) in [
        ("out/a.txt", "=2"),
        ("by-link/a.txt", "=2"),
        ("out/absolute", "=2"),
        ("out/fifo", "=-named pipe"),
        ("to-fifo", "=-named pipe"),
        ("out", "=-is directory"),
        ("out/dangling", "=-missing"),
        ("out/outward", "=-outward"),
        ("../outside/file", "=-above"),
        ("none", "=-missing"),
        ("out/a.txt/none", "=-missing"),
        ("nul\0byte", "=-missing"),
        ("/dev/zero", "=-character device"),
    ] {
        assert_eq!(read(&*quiet, path, Kind::File).await, [expected], "{path}");
    }
    let absolute = |name: &str| outside.join(name).to_str().expect("text").to_owned();
    assert_eq!(read(&*quiet, &absolute("file"), Kind::File).await, ["=5"]);
    assert_eq!(read(&*quiet, &absolute(""), Kind::Directory).await, ["file=5", "link=5", "outward=-outward"]);
    quiet.destroy(false).await.expect("gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absolute_path_into_the_task_directory_is_confined_to_it() {
    let bench = bench(Containment::Reaper).expect("an engine");
    let mut run = bench.start(vec![sh(TREE)]).await;
    assert!(run.exit(0).await.is_success());
    let path = |name: &str| run.task_dir.join(name).to_str().expect("text").to_owned();
    let (inside, outward) = (path("out/a.txt"), path("out/outward"));
    let quiet = run.quiet().await;
    assert_eq!(read(&*quiet, &inside, Kind::File).await, ["=2"]);
    assert_eq!(read(&*quiet, &outward, Kind::File).await, ["=-outward"]);
    quiet.destroy(false).await.expect("gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_directory_replaced_by_a_link_leads_nowhere() {
    let bench = bench(Containment::Reaper).expect("an engine");
    let secret = bench.dir.path().join("secret");
    fs::create_dir(&secret).expect("made");
    fs::write(secret.join("file"), "secret").expect("written");
    let mut run = bench.start(vec![sh("echo -n mine > file; mv \"$PWD\" ../moved; ln -s secret \"$PWD\"")]).await;
    assert!(run.exit(0).await.is_success());
    let quiet = run.quiet().await;
    assert_eq!(read(&*quiet, "file", Kind::File).await, ["=mine"]);
    quiet.destroy(false).await.expect("gone");
    assert!(secret.join("file").exists());
    assert_eq!(fs::read_dir(bench.dir.path()).expect("listed").count(), 1, "the moved directory is gone, too");
}

#[tokio::test(flavor = "multi_thread")]
async fn deep_and_locked_trees_are_read_and_removed() {
    let bench = bench(Containment::Reaper).expect("an engine");
    let script = "i=0; while [ $i -lt 1100 ]; do mkdir d && cd d && i=$((i+1)); [ $i = 500 ] && echo -n deep > file; done; \
                  cd / ; cd \"$TASK\"; mkdir locked; echo -n x > locked/file; chmod 0 locked";
    let mut run = bench.start_with(vec![sh(script)], |_| {}).await;
    let _ = run.exit(0).await;
    let task_dir = run.task_dir.clone();
    let quiet = run.quiet().await;
    let entries = read(&*quiet, "", Kind::Directory).await;
    assert!(entries.iter().any(|entry| entry.ends_with("d/file=deep")));
    assert!(entries.iter().any(|entry| entry.contains("nested in more than")), "{}", entries.len());
    quiet.destroy(false).await.expect("gone");
    assert!(!task_dir.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_has_to_take_all_entries() {
    let bench = bench(Containment::Reaper).expect("an engine");
    let quiet = quiet_after(&bench, "for i in $(seq 500); do : > file$i; done").await;
    let mut entries = quiet.read("", Kind::Directory);
    assert!(entries.recv().await.is_some());
    drop(entries);
    quiet.destroy(false).await.expect("gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_files_stay_and_existing_directories_are_refused() {
    let bench = bench(Containment::Reaper).expect("an engine");
    let names = bench.names();
    let ground = bench.engine.reserve(names.clone()).await.expect("reserved");
    assert!(names.task_dir.join("generic-worker").is_dir());
    let Err(error) = bench.engine.reserve(names.clone()).await else { panic!("it was there") };
    assert!(error.message.contains("File exists"), "{error}");
    ground.quiesce().await.destroy(true).await.expect("gone");
    assert!(names.task_dir.is_dir());
}
