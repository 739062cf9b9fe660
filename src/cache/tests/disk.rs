//! One store over a real directory: what tasks find, and what happens when others delete things.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use super::*;

#[test]
fn the_next_task_finds_what_the_last_one_left() {
    let rig = Rig::new();
    let store = rig.open();
    assert_eq!(rig.names(), [""; 0], "nothing is made before it is needed");
    let lease = one(&store, "a");
    assert!(!lease.was_there());
    assert_eq!(fs::read_dir(lease.directory()).expect("there").count(), 0);
    put(&lease, "first");
    assert_eq!(lease.give_back(Verdict::Keep), Ok(Returned::Kept));
    for store in [store, rig.open()] {
        let lease = one(&store, "a");
        assert!(lease.was_there());
        assert_eq!(content(&lease).as_deref(), Some("first"));
        assert_eq!(content(&one(&store, "b")), None, "another name");
        assert_eq!(lease.give_back(Verdict::Unused), Ok(Returned::Kept));
    }
}

#[test]
fn a_cache_that_is_wanted_twice_at_once_is_there_twice() {
    let rig = Rig::new();
    let store = rig.open();
    kept(&rig, &store, "a", "old");
    let leases = store.lease(&["a", "a", "b"]).expect("caches");
    assert_eq!(leases.iter().map(content).collect::<Vec<_>>(), [Some("old".to_owned()), None, None]);
    let mut places: Vec<PathBuf> = leases.iter().map(Lease::directory).collect();
    places.dedup();
    assert_eq!(places.len(), 3);
    for (number, lease) in leases.into_iter().enumerate() {
        put(&lease, &format!("{number}"));
        rig.later();
        assert_eq!(lease.give_back(Verdict::Keep), Ok(Returned::Kept));
    }
    assert_eq!(content(&one(&store, "a")).as_deref(), Some("1"), "the one used last is taken first");
}

#[test]
fn what_is_discarded_or_never_was_used_is_gone() {
    let rig = Rig::new();
    let store = rig.open();
    kept(&rig, &store, "a", "old");
    let (discarded, unused) = (one(&store, "a"), one(&store, "b"));
    put(&discarded, "half");
    assert_eq!(discarded.give_back(Verdict::Discard), Ok(Returned::Discarded));
    assert_eq!(unused.give_back(Verdict::Unused), Ok(Returned::Discarded));
    drop(one(&store, "c"));
    assert!(store.settle(PATIENCE));
    assert_eq!((rig.units(), store.count()), (Vec::new(), 0));
    assert_eq!(content(&one(&store, "a")), None);
}

#[test]
fn purge_requests_reach_free_caches_at_once_and_used_ones_at_their_return() {
    let rig = Rig::new();
    let store = rig.open();
    kept(&rig, &store, "a", "free");
    let (used, other) = (one(&store, "a"), one(&store, "b"));
    kept(&rig, &store, "a", "second");
    let request = |name: &str| PurgeRequest { cache_name: name.to_owned(), before: rig.clock.wall() };
    assert_eq!(store.purge(&[request("a"), request("c")]).len(), 2);
    assert!(!one(&store, "a").was_there());
    assert_eq!(used.give_back(Verdict::Keep), Ok(Returned::Outdated));
    assert_eq!(other.give_back(Verdict::Keep), Ok(Returned::Kept));
    assert!(store.settle(PATIENCE));
    assert_eq!(store.count(), 1);
    assert!(one(&store, "b").was_there());
}

#[test]
fn trim_and_room_take_the_longest_unused_first() {
    let rig = Rig::new();
    let store = rig.open();
    let leases = store.lease(&["a", "a", "a", "b"]).expect("caches");
    for (number, lease) in leases.into_iter().enumerate() {
        put(&lease, &format!("{number}"));
        rig.later();
        lease.give_back(Verdict::Keep).expect("kept");
    }
    assert_eq!(store.trim(2).len(), 1);
    assert_eq!(store.trim(2), [""; 0]);
    let leases = store.lease(&["a", "a", "a"]).expect("caches");
    assert_eq!(leases.iter().map(content).collect::<Vec<_>>(), [Some("2".to_owned()), Some("1".to_owned()), None]);
    // More than any disk has: everything that nobody uses goes.
    assert_eq!(store.make_room(u64::MAX).len(), 1);
    assert!(leases.iter().all(|lease| lease.directory().exists()));
    drop(leases);
    assert!(store.settle(PATIENCE));
    assert_eq!(rig.units(), [""; 0]);
    assert_eq!(store.make_room(0), [""; 0]);
}

#[test]
fn anything_may_be_deleted_at_any_time() {
    let delete = |path: PathBuf| {
        // The store may be deleting in there, too.
        while path.exists() {
            let deleted = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            drop(deleted);
        }
    };
    // What is deleted, whether while the cache is in use, and what the return of it then says.
    let table = |rig: &Rig, _: &Path| rig.dir.join(TABLE);
    let all = |rig: &Rig, _: &Path| rig.dir.clone();
    let data = |_: &Rig, data: &Path| data.to_owned();
    let unit = |_: &Rig, data: &Path| data.parent().expect("a parent").to_owned();
    type What = fn(&Rig, &Path) -> PathBuf;
    let cases: [(&str, What, Returned); 4] = [
        ("the table", table, Returned::Outdated),
        ("everything", all, Returned::Vanished),
        ("the content", data, Returned::Vanished),
        ("the cache", unit, Returned::Vanished),
    ];
    for (what, path, expected) in cases {
        let rig = Rig::new();
        let store = rig.open();
        kept(&rig, &store, "a", "old");
        let lease = one(&store, "a");
        let busy = lease.directory();
        delete(path(&rig, &busy));
        assert_eq!(lease.give_back(Verdict::Keep), Ok(expected), "{what}, in use");
        let lease = one(&store, "a");
        assert!(!lease.was_there(), "{what}, in use");
        delete(path(&rig, &lease.directory()));
        drop(lease);

        kept(&rig, &store, "a", "new");
        let free = free_data(&rig);
        delete(path(&rig, &free));
        let lease = one(&store, "a");
        assert!(!lease.was_there(), "{what}, free");
        put(&lease, "newest");
        assert_eq!(lease.give_back(Verdict::Keep), Ok(Returned::Kept), "{what}, free");
        assert_eq!(content(&one(&store, "a")).as_deref(), Some("newest"), "{what}");

        kept(&rig, &store, "b", "x");
        kept(&rig, &store, "c", "x");
        delete(path(&rig, &free_data(&rig)));
        store.purge(&[PurgeRequest { cache_name: "b".to_owned(), before: Timestamp::MAX }]);
        store.trim(0);
        store.make_room(u64::MAX);
        let start = rig.open();
        // Each leaves to the other what that is at.
        assert!(start.settle(PATIENCE) && store.settle(PATIENCE), "{what}");
        assert_eq!((rig.units(), start.count()), (Vec::new(), 0), "{what}");
    }
}

/// The content of some free cache.
fn free_data(rig: &Rig) -> PathBuf {
    let unit = rig.units().into_iter().find(|name| matches!(places::read(name), places::Named::Free(_)));
    rig.dir.join(unit.expect("a free cache")).join(places::DATA)
}

#[test]
fn a_table_that_is_none_is_a_fresh_start() {
    for broken in ["", "{", "[1]", "\u{feff}{}", "{\"a\": [{\"location\": \"/etc\"}]}"] {
        let rig = Rig::new();
        let store = rig.open();
        kept(&rig, &store, "a", "old");
        fs::write(rig.dir.join(TABLE), broken).expect("written");
        assert!(!one(&store, "a").was_there(), "{broken:?}");
        drop(store);
        let store = rig.open();
        assert!(store.settle(PATIENCE));
        assert_eq!(rig.units(), [""; 0], "{broken:?}");
    }
}

#[test]
fn modes_are_what_tasks_and_neighbours_see() {
    let rig = Rig::new();
    let store = rig.open();
    let lease = one(&store, "a");
    let mode = |path: &Path| path.metadata().expect("there").permissions().mode() & 0o7777;
    assert_eq!(mode(&lease.directory()), 0o755);
    assert_eq!(mode(lease.directory().parent().expect("a parent")), 0o700);
    assert_eq!(mode(&rig.dir), 0o700);
    assert_eq!(mode(&rig.dir.join(TABLE)), 0o600);
    assert_eq!(lease.directory().metadata().expect("there").uid(), nix::unistd::geteuid().as_raw());
}

#[test]
fn what_is_in_the_place_of_a_cache_and_is_none_is_not_handed_out() {
    let rig = Rig::new();
    let store = rig.open();
    kept(&rig, &store, "a", "old");
    let data = free_data(&rig);
    fs::remove_dir_all(&data).expect("deleted");
    std::os::unix::fs::symlink("/etc", &data).expect("linked");
    let lease = one(&store, "a");
    assert!(!lease.was_there());
    assert!(!lease.directory().symlink_metadata().expect("there").is_symlink());
    assert!(store.settle(PATIENCE));
    assert!(Path::new("/etc/passwd").exists());
}

#[test]
fn many_threads_and_two_stores_never_share_a_cache() {
    let rig = Rig::new();
    let stores = [rig.open(), rig.open()];
    std::thread::scope(|scope| {
        for number in 0..8 {
            let store = &stores[number % 2];
            scope.spawn(move || {
                for round in 0..20 {
                    let leases = store.lease(&["a", "b"]).expect("caches");
                    for lease in &leases {
                        // Fails if somebody else has the same directory.
                        let mark = lease.directory().join("mark");
                        fs::OpenOptions::new().write(true).create_new(true).open(&mark).expect("alone");
                        fs::remove_file(&mark).expect("still alone");
                    }
                    for lease in leases {
                        let verdict = if (round + number) % 5 == 0 { Verdict::Discard } else { Verdict::Keep };
                        lease.give_back(verdict).expect("given back");
                    }
                }
            });
        }
    });
    assert!(stores.iter().all(|store| store.settle(PATIENCE)));
    let counted = stores[0].count();
    assert_eq!(rig.units().len(), counted);
    assert!(counted <= 16, "{counted}");
}
