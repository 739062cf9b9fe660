//! Under which address others reach this machine.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use http::Uri;
use tokio::{
    net::{UdpSocket, lookup_host},
    time::timeout,
};

/// A resolver that does not answer in this time is as good as none; the live log is best effort.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// The address from which this machine reaches the root URL, which is the best guess at the one under which people who use that
/// deployment reach this machine. Nothing is sent to the deployment; only the resolver may be asked.
pub async fn reachable_host(root_url: &str) -> Option<IpAddr> {
    let uri: Uri = root_url.parse().ok()?;
    let host = uri.host()?.trim_start_matches('[').trim_end_matches(']');
    let port = uri.port_u16().unwrap_or(443);
    let addresses = timeout(LOOKUP_TIMEOUT, lookup_host((host, port))).await.ok()?.ok()?;
    for address in addresses {
        if let Some(local) = local_address_towards(address).await {
            return Some(local);
        }
    }
    None
}

async fn local_address_towards(remote: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = if remote.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await.ok()?;
    // For UDP this chooses a route and sends nothing.
    socket.connect(remote).await.ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_root_url_on_loopback_is_reached_from_loopback() {
        let v4 = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        assert_eq!(reachable_host("http://127.0.0.1:1234").await, v4);
        assert!(reachable_host("http://localhost:1234/").await.is_some_and(|ip| ip.is_loopback()));
        if UdpSocket::bind("[::1]:0").await.is_ok() {
            assert_eq!(reachable_host("https://[::1]").await, Some(IpAddr::V6(Ipv6Addr::LOCALHOST)));
        }
    }

    #[tokio::test]
    async fn what_cannot_be_reached_has_no_address() {
        assert_eq!(reachable_host("not a url").await, None);
        assert_eq!(reachable_host("http://host.invalid").await, None);
    }
}
