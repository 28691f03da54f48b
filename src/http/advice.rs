//! What to do where there is no connection, or no whole answer: the same for every service.

use http::uri::Authority;

use super::error::{HttpError, HttpFailure};
use crate::base::remedy::{Remedy, run, say};

/// The port of `https://` without one.
const HTTPS_PORT: u16 = 443;

impl HttpError {
    /// What to do about it.
    pub(crate) fn remedies(&self) -> Vec<Remedy> {
        let authority: Option<Authority> = self.target().parse().ok();
        let host = authority
            .as_ref()
            .map_or_else(|| self.target(), |authority| authority.host());
        let port = authority
            .as_ref()
            .and_then(Authority::port_u16)
            .unwrap_or(HTTPS_PORT);
        match self.failure() {
            HttpFailure::Dns => vec![run(
                "see what the name resolves to, and by which DNS; a private endpoint needs its private DNS zone linked to this network",
                format!("nslookup {host}"),
            )],
            HttpFailure::Connect(_) | HttpFailure::ConnectTimeout => vec![say(
                "check what is in between: firewalls, network policies, private endpoints, and HTTPS_PROXY and NO_PROXY",
            )],
            HttpFailure::NoRoute => vec![run(
                "compare the host's addresses with those of this machine or Pod: one with IPv6 addresses alone reaches a host with IPv4 addresses by a NAT64 with DNS64, or by a proxy (HTTPS_PROXY)",
                format!("nslookup {host}"),
            )],
            HttpFailure::Proxy(_) => vec![say(
                "check HTTPS_PROXY and NO_PROXY, and whether the proxy allows this host",
            )],
            HttpFailure::Tls(_) => vec![
                run(
                    "check which certificate the server presents; if a proxy intercepts TLS, give its authority with --extra-ca",
                    format!("openssl s_client -connect {host}:{port} -servername {host} </dev/null"),
                ),
                say("check that this machine's clock is right"),
            ],
            HttpFailure::Timeout | HttpFailure::Reset | HttpFailure::Protocol | HttpFailure::TooLarge => {
                vec![say(
                    "if the error persists, check whether a proxy or a firewall is in between",
                )]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_have_remedies_apart_from_their_causes() {
        let why = || "why".to_owned();
        for (failure, expected) in [
            (HttpFailure::Dns, "nslookup a.example\""),
            (HttpFailure::Connect(why()), "network policies"),
            (HttpFailure::NoRoute, "NAT64"),
            (HttpFailure::ConnectTimeout, "network policies"),
            (HttpFailure::Proxy(why()), "HTTPS_PROXY"),
            (HttpFailure::Tls(why()), "-connect a.example:8443 "),
            (HttpFailure::Timeout, "firewall"),
            (HttpFailure::Reset, "firewall"),
            (HttpFailure::Protocol, "proxy"),
            (HttpFailure::TooLarge, "proxy"),
        ] {
            let error = HttpError::new("a.example:8443".to_owned(), failure);
            let remedies = format!("{:?}", error.remedies());
            assert!(remedies.contains(expected), "{error}: {remedies}");
            assert!(!error.to_string().contains(';'), "{error}");
        }
        let error = HttpError::new("a.example".to_owned(), HttpFailure::Tls(why()));
        let remedies = format!("{:?}", error.remedies());
        assert!(
            remedies.contains("-connect a.example:443 -servername a.example "),
            "{remedies}"
        );
    }
}
