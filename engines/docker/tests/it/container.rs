//! What authors observe of a container.

use tc_engine::Exit;

use crate::support::{Rig, hosts, sh};

#[tokio::test(flavor = "multi_thread")]
async fn a_container_runs_and_nothing_is_left() {
    for (name, host) in hosts("a_container_runs_and_nothing_is_left") {
        let rig = Rig::new(&host).await;
        let (end, sink) = rig.perform(sh(&rig, "echo hello; exit 7")).await;
        assert_eq!(end.expect("an end").exit, Exit::Code(7), "{name}");
        assert_eq!(sink.text(), "hello\r\n", "{name}");
        rig.assert_clean().await;
    }
}
