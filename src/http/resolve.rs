//! Addresses given by hand.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use thiserror::Error;

/// Where to connect for one host and port: `HOST:PORT:ADDR:PORT`, in the manner of curl's `--resolve`.
///
/// curl's own has no second port; here it may be left out too. An IPv6 address is written in brackets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ResolveOverride {
    host: Box<str>,
    port: u16,
    address: SocketAddr,
}

/// Why a text is not such an override.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ResolveOverrideError {
    /// A part is missing.
    #[error("write HOST:PORT:ADDR:PORT, for instance myregistry.azurecr.io:443:10.0.0.4:443")]
    Form,
    /// The host is empty or has characters that no host name has.
    #[error("the host in HOST:PORT:ADDR:PORT must be a host name")]
    Host,
    /// A port is not a number from 1 to 65535.
    #[error("the ports in HOST:PORT:ADDR:PORT must be numbers from 1 to 65535")]
    Port,
    /// The address is none.
    #[error("ADDR in HOST:PORT:ADDR:PORT must be an IPv4 address, or an IPv6 address in brackets")]
    Address,
}

impl ResolveOverride {
    /// The host it is for, in lower case.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port it is for.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where to connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address for a host and port, if this is for them.
    pub(super) fn matches(&self, host: &str, port: u16) -> Option<SocketAddr> {
        (self.port == port && self.host.eq_ignore_ascii_case(host)).then_some(self.address)
    }
}

impl FromStr for ResolveOverride {
    type Err = ResolveOverrideError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, rest) = text.split_once(':').ok_or(ResolveOverrideError::Form)?;
        let (port, address) = rest.split_once(':').ok_or(ResolveOverrideError::Form)?;
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        if host.is_empty() || !host.bytes().all(is_host) {
            return Err(ResolveOverrideError::Host);
        }
        let port = parse_port(port)?;
        let (ip, target_port) = split_address(address)?;
        let target_port = target_port.map_or(Ok(port), parse_port)?;
        Ok(Self {
            host: host.to_ascii_lowercase().into_boxed_str(),
            port,
            address: SocketAddr::new(ip, target_port),
        })
    }
}

impl fmt::Display for ResolveOverride {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.host, self.port, self.address)
    }
}

fn split_address(text: &str) -> Result<(IpAddr, Option<&str>), ResolveOverrideError> {
    let ipv6 = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let (ip, port) = match ipv6 {
        Some((ip, "")) => (ip.parse().map(IpAddr::V6), None),
        Some((ip, rest)) => {
            let port = rest.strip_prefix(':').ok_or(ResolveOverrideError::Address)?;
            (ip.parse().map(IpAddr::V6), Some(port))
        }
        None => {
            let (ip, port) = match text.split_once(':') {
                Some((ip, port)) => (ip, Some(port)),
                None => (text, None),
            };
            (ip.parse().map(IpAddr::V4), port)
        }
    };
    Ok((ip.map_err(|_| ResolveOverrideError::Address)?, port))
}

fn parse_port(text: &str) -> Result<u16, ResolveOverrideError> {
    match text.parse() {
        Ok(port) if port != 0 => Ok(port),
        _ => Err(ResolveOverrideError::Port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_are_read_and_shown() {
        for (text, host, port, address) in [
            ("a.example:443:10.0.0.4:8443", "a.example", 443, "10.0.0.4:8443"),
            ("A.Example:443:10.0.0.4", "a.example", 443, "10.0.0.4:443"),
            ("a.example:443:[::1]:8443", "a.example", 443, "[::1]:8443"),
            ("a.example:80:[::1]", "a.example", 80, "[::1]:80"),
        ] {
            let parsed: ResolveOverride = text.parse().expect(text);
            assert_eq!(
                (
                    parsed.host(),
                    parsed.port(),
                    parsed.address().to_string().as_str()
                ),
                (host, port, address)
            );
            assert_eq!(parsed.to_string().parse(), Ok(parsed), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_the_part_that_is_wrong() {
        for (text, error) in [
            ("", ResolveOverrideError::Form),
            ("a.example", ResolveOverrideError::Form),
            ("a.example:443", ResolveOverrideError::Form),
            (":443:10.0.0.4", ResolveOverrideError::Host),
            ("a/b:443:10.0.0.4", ResolveOverrideError::Host),
            ("a.example:0:10.0.0.4", ResolveOverrideError::Port),
            ("a.example:443:10.0.0.4:70000", ResolveOverrideError::Port),
            ("a.example:443:10.0.0.4:", ResolveOverrideError::Port),
            ("a.example:443:b.example:443", ResolveOverrideError::Address),
            ("a.example:443:::1:443", ResolveOverrideError::Address),
            ("a.example:443:[::1]443", ResolveOverrideError::Address),
        ] {
            assert_eq!(text.parse::<ResolveOverride>(), Err(error), "{text}");
        }
    }

    #[test]
    fn an_override_is_for_its_host_in_any_case_and_its_port() {
        let parsed: ResolveOverride = "a.example:443:10.0.0.4".parse().unwrap();
        assert!(parsed.matches("A.EXAMPLE", 443).is_some());
        assert!(parsed.matches("a.example", 80).is_none());
        assert!(parsed.matches("b.a.example", 443).is_none());
    }
}
