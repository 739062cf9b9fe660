//! Places in a container that are the engine's own: `tc_payload` says which, for those who check tasks before they run.

use tc_engine::{Bind, ContainerPlan, Exit};
use tc_payload::docker::kept_by_the_engine;

use crate::support::{Rig, hosts, plan};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_of_places_holds() {
    for (name, host) in hosts("what_is_said_of_places_holds") {
        let rig = Rig::new(&host).await;
        let cache = tempfile::tempdir().expect("a directory");
        for place in
            ["/proc", "/proc/new", "/dev", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/sys", "/dev/new", "/etc"]
        {
            let bind = Bind { source: cache.path().to_owned(), target: place.to_owned() };
            let container = ContainerPlan { binds: vec![bind], ..rig.container() };
            let (end, sink) = rig.perform(plan(container, &["true"])).await;
            let started = end.is_ok_and(|end| end.exit == Exit::Code(0));
            assert_eq!(started, kept_by_the_engine(place, false).is_none(), "{name}: {place}: {}", sink.text());
        }
        rig.assert_clean().await;
    }
}
