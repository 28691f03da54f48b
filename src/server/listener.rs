//! Listening sockets.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// How many connections wait to be accepted; the system may allow fewer.
const BACKLOG: i32 = 4096;

/// Listens on an address. `[::]`, every IPv6 address, stands for every IPv4 address as well, and only for those where
/// the kernel has no IPv6.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    listen_by(address, bind)
}

fn listen_by<T>(address: SocketAddr, bind: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    match bind(address) {
        // What another family of addresses doesn't help with.
        Err(error) if [io::ErrorKind::AddrInUse, io::ErrorKind::PermissionDenied].contains(&error.kind()) => {
            Err(error)
        }
        // Both families are asked for, so one that is not there is no failure, and the other one says what is wrong.
        Err(_) if is_every_address(address) => {
            bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())))
        }
        bound => bound,
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if is_every_address(address) {
        // The system's default may be only IPv6.
        socket.set_only_v6(false)?;
    }
    // A program that is started again need not wait for its former connections.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn is_every_address(address: SocketAddr) -> bool {
    address.is_ipv6() && address.ip().is_unspecified()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv6Addr, TcpStream};

    fn every_address(port: u16) -> SocketAddr {
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))
    }

    #[test]
    fn every_address_is_one_of_both_families() -> io::Result<()> {
        let listener = listen(every_address(0))?;
        let port = listener.local_addr()?.port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        // Where the kernel has IPv6 at all.
        if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
            TcpStream::connect((Ipv6Addr::LOCALHOST, port))?;
        }
        Ok(())
    }

    #[test]
    fn a_kernel_without_ipv6_has_the_ipv4_addresses() {
        let unknown_family = |address: SocketAddr| match address {
            SocketAddr::V6(_) => Err(io::Error::other("Address family not supported by protocol")),
            SocketAddr::V4(_) => Ok(address),
        };
        let bound = listen_by(every_address(8443), unknown_family);
        assert_eq!(bound.ok(), Some(SocketAddr::from(([0, 0, 0, 0], 8443))));
        let one = SocketAddr::from((Ipv6Addr::LOCALHOST, 8443));
        assert!(listen_by(one, unknown_family).is_err());
    }

    #[test]
    fn a_port_in_use_is_not_taken_by_the_other_family() {
        let in_use = |address: SocketAddr| match address {
            SocketAddr::V6(_) => Err(io::Error::from(io::ErrorKind::AddrInUse)),
            SocketAddr::V4(_) => Ok(address),
        };
        let bound = listen_by(every_address(8443), in_use);
        assert_eq!(
            bound.err().map(|error| error.kind()),
            Some(io::ErrorKind::AddrInUse)
        );
    }

    #[test]
    fn the_last_of_two_failures_is_told() {
        let refuse = |address: SocketAddr| Err::<(), _>(io::Error::other(address.to_string()));
        let bound = listen_by(every_address(8443), refuse);
        assert_eq!(
            bound.err().map(|error| error.to_string()).as_deref(),
            Some("0.0.0.0:8443")
        );
    }
}
