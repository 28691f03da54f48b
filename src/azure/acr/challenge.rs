//! `WWW-Authenticate: Bearer …` (RFC 9110, section 11.6.1; the distribution specification's token authentication).

use http::Uri;

use super::AcrError;

/// Where a registry sends clients for a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// The URL of the token service.
    pub realm: String,
    /// The name that the registry has there.
    pub service: Option<String>,
}

impl Challenge {
    /// Reads the Bearer challenge out of a header's value, which may have others before it.
    pub fn parse(value: &str) -> Option<Self> {
        let mut rest = value;
        let mut is_bearer = false;
        let (mut realm, mut service) = (None, None);
        loop {
            rest = rest.trim_start_matches([' ', '\t', ',']);
            if rest.is_empty() {
                break;
            }
            let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
            let (word, after) = rest.split_at_checked(end)?;
            let Some(after) = after.trim_start().strip_prefix('=') else {
                // A word without a value names the next scheme.
                if realm.is_some() {
                    break;
                }
                is_bearer = word.eq_ignore_ascii_case("bearer");
                rest = after;
                continue;
            };
            let (parameter, after) = parameter(after.trim_start())?;
            if is_bearer && word.eq_ignore_ascii_case("realm") {
                realm = Some(parameter);
            } else if is_bearer && word.eq_ignore_ascii_case("service") {
                service = Some(parameter);
            }
            rest = after;
        }
        Some(Self {
            realm: realm?,
            service,
        })
    }

    /// A client that follows a challenge sends a password along, so it must lead back to the registry itself, over TLS: to one
    /// of these hosts.
    pub(super) fn check(&self, hosts: &[&str]) -> Result<(), AcrError> {
        let url: Option<Uri> = self.realm.parse().ok();
        let host = url.as_ref().and_then(Uri::host);
        // The authority as it is written: a port that is no number, which a URL may have here, reads as no port.
        let is_own = url.as_ref().is_some_and(|url| {
            let authority = url.authority().map_or("", |authority| authority.as_str());
            let named = authority.strip_suffix(":443").unwrap_or(authority);
            url.scheme_str() == Some("https") && hosts.iter().any(|host| named.eq_ignore_ascii_case(host))
        });
        if is_own {
            return Ok(());
        }
        Err(AcrError::WrongRealm {
            realm: host.unwrap_or(&self.realm).chars().take(100).collect(),
        })
    }
}

/// A parameter's value, in quotes or not, and what follows it.
fn parameter(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        let (value, rest) = text.split_at_checked(end)?;
        return Some((value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut chars = quoted.chars();
    loop {
        match chars.next()? {
            '"' => return Some((value, chars.as_str())),
            '\\' => value.push(chars.next()?),
            other => value.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(value: &str) -> Option<(String, Option<String>)> {
        Challenge::parse(value).map(|challenge| (challenge.realm, challenge.service))
    }

    #[test]
    fn bearer_challenges_are_read_in_every_form() {
        let full = Some(("https://r/t".to_owned(), Some("r".to_owned())));
        for value in [
            r#"Bearer realm="https://r/t",service="r""#,
            r#"bearer  realm = "https://r/t" , service = "r", scope="a,b""#,
            "Bearer service=r,realm=https://r/t",
            r#"Basic realm="else", Bearer realm="https://r/t",service="r""#,
            r#"Bearer realm="https://r/t",service="r", Basic realm="else""#,
            r#"Bearer realm="https:\/\/r/t",service="r""#,
        ] {
            assert_eq!(parsed(value), full, "{value}");
        }
        assert_eq!(parsed(r#"Bearer realm="x""#), Some(("x".to_owned(), None)));
    }

    #[test]
    fn anything_else_is_no_challenge() {
        for value in [
            "",
            "Bearer",
            "Basic realm=\"x\"",
            "Bearer realm=\"x",
            "Bearer service=\"x\"",
            "realm=\"x\"",
            "Negotiate abc==",
        ] {
            assert_eq!(parsed(value), None, "{value}");
        }
    }

    #[test]
    fn a_realm_must_be_the_registry_itself() {
        let hosts = ["myregistry.azurecr.io", "registry.contoso.com"];
        for (realm, named) in [
            ("https://registry.contoso.com/oauth2/token", None),
            ("https://myregistry.azurecr.io/oauth2/token", None),
            ("https://MyRegistry.azurecr.io:443/oauth2/token", None),
            (
                "http://myregistry.azurecr.io/oauth2/token",
                Some("myregistry.azurecr.io"),
            ),
            (
                "https://myregistry.azurecr.io:8443/oauth2/token",
                Some("myregistry.azurecr.io"),
            ),
            (
                "https://myregistry.azurecr.io:!43/oauth2/token",
                Some("myregistry.azurecr.io"),
            ),
            ("https://evil.example/oauth2/token", Some("evil.example")),
            (
                "https://myregistry.azurecr.io.evil.example/",
                Some("myregistry.azurecr.io.evil.example"),
            ),
            (
                "https://myregistry.azurecr.io@evil.example/",
                Some("evil.example"),
            ),
            ("https://x@myregistry.azurecr.io/", Some("myregistry.azurecr.io")),
            ("/oauth2/token", Some("/oauth2/token")),
            ("", Some("")),
        ] {
            let challenge = Challenge {
                realm: realm.to_owned(),
                service: None,
            };
            let expected = named.map_or(Ok(()), |realm| {
                Err(AcrError::WrongRealm {
                    realm: realm.to_owned(),
                })
            });
            assert_eq!(challenge.check(&hosts), expected, "{realm}");
        }
    }

    proptest! {
        #[test]
        fn no_value_panics(value in "[ -~]{0,80}", pairs in "(Bearer )?([a-z]*[ =,\"\\\\]){0,20}") {
            let _ = Challenge::parse(&value);
            let _ = Challenge::parse(&pairs);
        }
    }
}
