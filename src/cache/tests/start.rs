//! What a worker finds when it starts.

use std::{fmt::Write as _, time::Instant};

use super::*;

#[test]
fn caches_of_the_reference_are_taken_over_and_become_ours() {
    let rig = Rig::new();
    let home = rig.dir.parent().expect("a parent").to_owned();
    for (name, content) in [("AAAA", "one"), ("BBBB", "two")] {
        fs::create_dir_all(rig.dir.join(name)).expect("made");
        fs::write(rig.dir.join(name).join("file"), content).expect("written");
    }
    let row = |name: &str, used: u32| {
        let location = rig.dir.join(name);
        serde_json::json!({ "created": "2026-08-01T10:00:00Z", "location": location, "hits": 1, "key": "c", "sha256": "",
            "in_use": false, "last_used": format!("2026-08-0{used}T10:00:00Z") })
    };
    let elsewhere = serde_json::json!({ "created": "2026-08-01T10:00:00Z", "location": home, "hits": 1 });
    let text =
        serde_json::json!({ "c": [row("AAAA", 2), row("BBBB", 3), row("CCCC", 4)], "d": row("DDDD", 1), "e": elsewhere });
    let theirs = home.join("theirs.json");
    fs::write(&theirs, text.to_string()).expect("written");
    let store = rig.open_with(vec![home.join("missing.json"), theirs.clone()]);
    assert_eq!(store.count(), 4);
    let leases = store.lease(&["c", "c", "c", "d"]).expect("caches");
    let contents: Vec<_> = leases.iter().map(content).collect();
    assert_eq!(contents, [Some("two".to_owned()), Some("one".to_owned()), None, None], "the missing ones are a miss");
    for lease in leases {
        assert_eq!(lease.give_back(Verdict::Keep), Ok(Returned::Kept));
    }
    // From now on our own table counts, whatever theirs says.
    drop(store);
    let store = rig.open_with(vec![theirs]);
    assert!(store.settle(PATIENCE));
    assert_eq!((store.count(), rig.units().len()), (4, 4));
    assert!(one(&store, "c").was_there());
}

#[test]
fn what_no_table_names_goes_if_it_is_ours_and_stays_if_it_is_not() {
    let rig = Rig::new();
    for name in ["tc-lost/data", "tc-half.busy/data", "trash-old/data/deep", "AAAA", "other.txt.d"] {
        fs::create_dir_all(rig.dir.join(name)).expect("made");
    }
    let store = rig.open();
    assert!(store.settle(PATIENCE));
    assert_eq!(rig.names(), ["AAAA", "other.txt.d"]);
}

#[test]
fn a_lease_of_a_dead_process_is_gone_and_one_of_a_living_is_not_touched() {
    let rig = Rig::new();
    let store = rig.open();
    kept(&rig, &store, "a", "old");
    kept(&rig, &store, "b", "old");
    let mut dead = one(&store, "a");
    put(&dead, "half");
    // What the kernel does when a process dies.
    drop(dead.lock.take());
    let living = one(&store, "b");
    put(&living, "whole");
    let next = rig.open();
    assert!(next.settle(PATIENCE));
    assert_eq!(content(&one(&next, "a")), None);
    assert!(!one(&next, "b").was_there(), "in use elsewhere");
    assert_eq!(living.give_back(Verdict::Keep), Ok(Returned::Kept));
    assert_eq!(content(&one(&next, "b")).as_deref(), Some("whole"));
}

#[test]
fn a_death_between_two_steps_of_a_return_keeps_the_cache() {
    let rig = Rig::new();
    let store = rig.open();
    let mut lease = one(&store, "a");
    put(&lease, "whole");
    // The first step is done; the table still says that it is in use.
    fs::rename(&lease.unit.busy, &lease.unit.free).expect("renamed");
    drop(lease.lock.take());
    let next = rig.open();
    assert!(next.settle(PATIENCE));
    assert_eq!(content(&one(&next, "a")).as_deref(), Some("whole"));
}

#[test]
fn a_death_between_two_steps_of_a_lease_discards_the_cache() {
    let rig = Rig::new();
    let store = rig.open();
    kept(&rig, &store, "a", "whole");
    let before = fs::read(rig.dir.join(TABLE)).expect("a table");
    let mut lease = one(&store, "a");
    drop(lease.lock.take());
    // The table still says that it is free.
    fs::write(rig.dir.join(TABLE), before).expect("written");
    let next = rig.open();
    assert!(next.settle(PATIENCE));
    assert!(!one(&next, "a").was_there());
    assert!(next.settle(PATIENCE));
    assert_eq!(rig.units(), [""; 0]);
}

#[test]
fn twenty_thousand_caches_do_not_hold_up_the_first_task() {
    const CACHES: usize = 20_500;
    // In memory where that can be: many small directories are slow to make on a busy disk, and it is not the disk that is looked at.
    let home = Some(Path::new("/dev/shm")).filter(|path| path.is_dir()).map_or_else(std::env::temp_dir, Path::to_owned);
    let home = tempfile::tempdir_in(home).expect("a directory");
    let rig = Rig::at(&home.path().join("caches"));
    fs::create_dir_all(&rig.dir).expect("made");
    let mut text = String::from("{");
    for number in 0..CACHES {
        fs::create_dir_all(rig.dir.join(format!("tc-{number}/data"))).expect("made");
        let comma = if number == 0 { "" } else { "," };
        let location = rig.dir.join(format!("tc-{number}/data"));
        write!(
            text,
            "{comma}\"cache-{}\":[{{\"created\":\"2026-08-01T10:00:00Z\",\"location\":{location:?},\"hits\":1,\"key\":\"\",\
             \"sha256\":\"\",\"in_use\":false,\"last_used\":\"2026-08-01T10:00:00Z\"}}]",
            number
        )
        .expect("a text");
    }
    // More than the trash keeps in mind, which nothing names.
    for number in 0..5000 {
        fs::create_dir(rig.dir.join(format!("tc-lost-{number}"))).expect("made");
    }
    text.push('}');
    fs::write(rig.dir.join(TABLE), text).expect("written");
    let began = Instant::now();
    let store = rig.open();
    let opened = began.elapsed();
    let lease = one(&store, "cache-77");
    let leased = began.elapsed();
    assert!(lease.was_there());
    assert_eq!(lease.give_back(Verdict::Keep), Ok(Returned::Kept));
    println!("{CACHES} caches: opened after {opened:?}, first lease after {leased:?}, given back after {:?}", began.elapsed());
    assert!(opened < Duration::from_millis(200), "{opened:?}");
    // Without optimizations and beside other tests this takes many times as long as it will.
    assert!(leased < Duration::from_secs(20), "{leased:?}");
    assert!(store.settle(10 * PATIENCE));
    assert_eq!((rig.units().len(), store.count()), (CACHES, CACHES));
}
