//! The proxy for HTTPS.

use std::fmt;
use std::sync::Arc;

use http::Uri;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use thiserror::Error;

use crate::base::secret_text::SecretText;

/// An HTTP proxy that is asked to `CONNECT`, and the hosts that are reached without it.
#[derive(Clone)]
pub struct Proxy {
    matcher: Arc<Matcher>,
    /// As it was given, with a scheme; there may be a password in it.
    url: SecretText,
}

/// Why a proxy can't be used. The text leaves the URL out, since there may be a password in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// Not a URL with a host.
    #[error("the HTTPS proxy is not a URL: write HTTPS_PROXY as http://[user:password@]host:port")]
    Url,
    /// A proxy of another kind.
    #[error("only an http:// proxy can be used for HTTPS: SOCKS, and TLS to the proxy itself, are not there")]
    Scheme,
    /// A user or a password with characters that end it early, so that a part of it reads as the host.
    #[error(
        "user and password in the HTTPS proxy's URL can be read in more than one way: percent-encode every \
         character of them that is not a letter or a digit, for instance @ as %40, / as %2F and % as %25"
    )]
    UserInfo,
}

/// URL and matcher may hold a password.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").finish_non_exhaustive()
    }
}

impl Proxy {
    /// A proxy, and in the manner of curl's `NO_PROXY` the hosts, domains and networks that are reached without it.
    pub fn new(url: &str, no_proxy: &str) -> Result<Self, ProxyError> {
        let parsed = url.parse::<Uri>();
        if is_ambiguous(url, parsed.as_ref().ok()) {
            return Err(ProxyError::UserInfo);
        }
        let parsed = parsed.map_err(|_| ProxyError::Url)?;
        if parsed.host().is_none_or(str::is_empty) {
            return Err(ProxyError::Url);
        }
        if !matches!(parsed.scheme_str(), None | Some("http")) {
            return Err(ProxyError::Scheme);
        }
        Ok(Self {
            matcher: Arc::new(Matcher::builder().https(url).no(no_proxy).build()),
            url: match parsed.scheme() {
                Some(_) => url.to_owned().into(),
                None => format!("http://{url}").into(),
            },
        })
    }

    /// The proxy that the environment names: `HTTPS_PROXY`, else `ALL_PROXY`, and `NO_PROXY`, each in either case as
    /// curl has it. A variable that is empty is not set.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, ProxyError> {
        let first = |names: &[&str]| {
            names
                .iter()
                .filter_map(|name| variable(name))
                .find(|value| !value.is_empty())
        };
        let Some(url) = first(&["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]) else {
            return Ok(None);
        };
        let no_proxy = first(&["NO_PROXY", "no_proxy"]).unwrap_or_default();
        Self::new(&url, &no_proxy).map(Some)
    }

    /// [`Self::from_variables`] of this process.
    pub fn from_environment() -> Result<Option<Self>, ProxyError> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// The proxy to ask for a URL, if it is to be asked.
    pub(super) fn intercept(&self, url: &Uri) -> Option<Intercept> {
        self.matcher.intercept(url)
    }

    /// The proxy's own URL, with the password that may be in it, if the proxy is to be asked for another URL.
    pub fn url_for(&self, url: &Uri) -> Result<Option<Uri>, ProxyError> {
        self.intercept(url)
            .map(|_| self.url.expose().parse().map_err(|_| ProxyError::Url))
            .transpose()
    }
}

/// Whether parsers may disagree about where user and password end, or what they are: some take the first `@`
/// for the end and some the last one, and a `/`, `?` or `#` before it makes the user the host.
fn is_ambiguous(url: &str, parsed: Option<&Uri>) -> bool {
    let Some((before, after)) = url.split_once('@') else {
        return false;
    };
    let is_in_authority = |url: &Uri| {
        let authority = url.authority();
        authority.is_some_and(|authority| authority.as_str().contains('@'))
    };
    after.contains('@') || parsed.is_some_and(|url| !is_in_authority(url)) || !is_escaped(before)
}

/// Whether every percent sign begins an escape.
fn is_escaped(text: &str) -> bool {
    text.split('%').skip(1).all(|rest| {
        let escape = rest.as_bytes().get(..2);
        escape.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(pairs: &[(&str, &str)]) -> Result<Option<Proxy>, ProxyError> {
        Proxy::from_variables(|name| {
            let pair = pairs.iter().find(|(known, _)| *known == name);
            pair.map(|(_, value)| (*value).to_owned())
        })
    }

    fn asked(proxy: &Proxy, url: &str) -> Option<String> {
        let intercept = proxy.intercept(&url.parse().unwrap());
        intercept.map(|intercept| intercept.uri().to_string())
    }

    #[test]
    fn the_environment_is_read_as_curl_does() {
        let proxy = from(&[
            ("https_proxy", "http://user:hunter2@proxy.example:3128"),
            ("ALL_PROXY", "http://other.example"),
            ("NO_PROXY", "azurecr.io, 10.0.0.0/8"),
        ]);
        let proxy = proxy.unwrap().unwrap();
        let through = Some("http://proxy.example:3128/".to_owned());
        assert_eq!(asked(&proxy, "https://login.microsoftonline.com/"), through);
        assert_eq!(asked(&proxy, "https://myregistry.azurecr.io/v2/"), None);
        assert_eq!(asked(&proxy, "https://10.1.2.3/"), None);
        assert_eq!(asked(&proxy, "http://169.254.169.254/metadata"), None);
        assert_eq!(format!("{proxy:?}"), "Proxy { .. }");
        let url = |text: &str| proxy.url_for(&text.parse().unwrap()).unwrap();
        let whole = "http://user:hunter2@proxy.example:3128".parse().unwrap();
        assert_eq!(url("https://api.example:6443"), Some(whole));
        assert_eq!(url("https://10.1.2.3:6443"), None);
    }

    #[test]
    fn a_proxy_without_a_scheme_is_an_http_one() {
        let proxy = Proxy::new("proxy.example:3128", "").unwrap();
        let url = proxy.url_for(&"https://api.example".parse().unwrap());
        assert_eq!(url.unwrap().unwrap(), "http://proxy.example:3128");
    }

    #[test]
    fn no_variable_or_an_empty_one_is_no_proxy() {
        assert!(from(&[]).unwrap().is_none());
        assert!(
            from(&[("HTTPS_PROXY", ""), ("HTTP_PROXY", "http://p")])
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn a_proxy_that_can_not_be_used_is_an_error_and_not_passed_by() {
        for (url, error) in [
            ("http://", ProxyError::Url),
            ("http://user:hunter2@ a", ProxyError::Url),
            ("/proxy", ProxyError::Url),
            ("socks5://proxy.example:1080", ProxyError::Scheme),
            ("https://proxy.example", ProxyError::Scheme),
        ] {
            let got = from(&[("HTTPS_PROXY", url)]).unwrap_err();
            assert_eq!(got, error, "{url}");
            assert!(!got.to_string().contains("hunter2"));
        }
    }
    #[test]
    fn user_info_with_two_readings_is_refused_without_showing_it() {
        for url in [
            "http://us@er:hunter2@proxy.example:3128",
            "http://user:hun@ter2@proxy.example",
            "us@er:hunter2@proxy.example:3128",
            "http://user:1/hunter2@proxy.example",
            "http://user:1?hunter2@proxy.example",
            "http://user:1#hunter2@proxy.example",
            "http://proxy.example/hunter2@",
            "http://user:hunter2%@proxy.example",
            "http://user:hunter2%4@proxy.example",
            "http://user:%zzhunter2@proxy.example",
            "http://user:hunter2@ @proxy.example",
        ] {
            let error = Proxy::new(url, "").unwrap_err();
            assert_eq!(error, ProxyError::UserInfo, "{url}");
            for part in ["hunter2", "hun", "ter2", "us@er", "proxy.example"] {
                assert!(!format!("{error} {error:?}").contains(part), "{url}");
            }
        }
    }

    #[test]
    fn escaped_user_info_is_sent_as_it_is_meant() {
        let proxy = Proxy::new("http://us%40er:a%2Fb:c%25@proxy.example:3128", "").unwrap();
        let asked = proxy.intercept(&"https://api.example".parse().unwrap()).unwrap();
        assert_eq!(asked.uri(), "http://proxy.example:3128/");
        // Of us@er:a/b:c%
        assert_eq!(asked.basic_auth().unwrap(), "Basic dXNAZXI6YS9iOmMl");
    }
}
