//! What a container sees of the network.

use serde_json::json;

use super::bench::{Bench, script};

on_newest!(the_name_of_the_local_host_is_known);
async fn the_name_of_the_local_host_is_known(bench: Bench) {
    let done = bench.run(script("grep localhost.localdomain /etc/hosts | tr '\\t' ' '")).await.expect("completed/completed");
    done.says("\n127.0.0.1 localhost.localdomain\r\n");
    bench.close();
}

on_all!(version_six_is_there_exactly_when_the_default_bridge_has_it);
async fn version_six_is_there_exactly_when_the_default_bridge_has_it(bench: Bench) {
    let enabled = bench.engine.docker(&["network", "inspect", "bridge", "--format", "{{.EnableIPv6}}"]);
    let text = "grep -v -e '^fe80' -e ' lo$' /proc/net/if_inet6 | wc -l; ip -o link | grep -c eth0; id";
    let done = bench.run(script(text)).await.expect("completed/completed");
    let addresses = if enabled.trim() == "true" { "1" } else { "0" };
    done.says(&format!("\n{addresses}\r\n1\r\n"));
    bench.close();
}

on_newest!(the_network_is_not_the_hosts);
async fn the_network_is_not_the_hosts(bench: Bench) {
    // The queue listens on the host's loopback device.
    let address = bench.queue.address();
    let (host, port) = address.split_once(':').expect("host and port");
    let text = format!("nc -w 2 {host} {port} < /dev/null && echo reached || echo unreachable");
    bench.run_all(vec![script(&text)], &json!({})).await.remove(0).expect("completed/completed").says("\nunreachable\r\n");
    bench.close();
}
