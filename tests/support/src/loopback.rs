//! Where the processes of a test listen: on the loopback address of IPv4 or, where a test has put them into a network without IPv4, on
//! that of IPv6.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::OnceLock;

/// The loopback address.
pub(crate) fn address() -> IpAddr {
    static ADDRESS: OnceLock<IpAddr> = OnceLock::new();
    *ADDRESS.get_or_init(|| {
        let of_ipv4 = IpAddr::from(Ipv4Addr::LOCALHOST);
        if TcpListener::bind((of_ipv4, 0)).is_ok() {
            of_ipv4
        } else {
            Ipv6Addr::LOCALHOST.into()
        }
    })
}

/// A port there; port 0 is a free one.
pub(crate) fn at(port: u16) -> SocketAddr {
    SocketAddr::new(address(), port)
}
