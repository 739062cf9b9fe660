//! Making room.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tc_engine_docker::image::Images;

use super::{
    archives::{Built, busybox, layer},
    support::{Archive, Bench, CleanUp, Later, ROOM, bring, engines},
};

#[tokio::test(flavor = "multi_thread")]
async fn the_least_recently_used_goes_first_and_what_is_used_stays() {
    let _turn = ROOM.lock().await;
    for engine in engines("the_least_recently_used_goes_first_and_what_is_used_stays") {
        let state = tempfile::tempdir().unwrap();
        let later = Later::default();
        let mut options = engine.options(state.path()).await;
        options.now = later.now();
        // A disk on which each look finds 1000 bytes more, so that what others do on the real one does not matter.
        let looks = AtomicU64::new(0);
        options.free_bytes = Arc::new(move |_| Some(1000 * looks.fetch_add(1, Ordering::SeqCst)));
        let images = Images::new(options);
        let mut ids = Vec::new();
        let mut archives = Vec::new();
        for which in ["old", "used", "theirs", "new", "recent"] {
            let archive = Archive::new(Built::new(vec![busybox("room"), layer("which", which)], &[]).kaniko());
            if which == "recent" {
                later.by(Duration::from_secs(86_400));
            }
            ids.push(bring(&images, &format!("room:{which}"), &archive).await.unwrap().id);
            archives.push(archive);
            later.by(Duration::from_secs(60));
        }
        let _clean = CleanUp(&engine, ids.clone());
        // `old` was the first one and is not any more; `used` has a container that never ran; `theirs` was given a name.
        let container = Container(&engine, engine.docker(&["create", "--network", "none", &ids[1]]).unwrap());
        engine.docker(&["tag", &ids[2], "room-test:theirs"]).unwrap();
        later.by(Duration::from_secs(60));

        let said = images.make_room(1500).await;
        assert_eq!(said.len(), 1, "{engine:?}: one is enough: {said:?}");
        assert!(said[0].contains("room:old"), "{said:?}");
        assert_eq!(engine.id(&ids[0]), None);

        let said = images.make_room(u64::MAX).await;
        assert_eq!(said.len(), 1, "{engine:?}: {said:?}");
        assert!(said[0].contains("room:new"), "{said:?}");
        for (at, there) in [(1, true), (2, true), (3, false), (4, true)] {
            assert_eq!(engine.id(&ids[at]).is_some(), there, "{engine:?}: {at}");
        }
        assert!(engine.id("busybox:latest").is_some(), "brought by others");

        drop(container);
        engine.docker(&["rmi", "room-test:theirs"]).unwrap();
        later.by(Duration::from_secs(3600));
        let said = images.make_room(u64::MAX).await;
        assert_eq!(said.len(), 3, "{engine:?}: {said:?}");
        assert!(bring(&images, "room:new", &archives[3]).await.is_ok_and(|image| !image.was_there), "a miss, no error");
    }
}

/// A container that goes also when the test fails.
struct Container<'a>(&'a Bench, String);

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let _ = self.0.docker(&["rm", "-f", &self.1]);
    }
}
