//! The proxy for HTTPS.

use std::sync::Arc;

use http::Uri;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use thiserror::Error;

use crate::base::secret_text::SecretText;

/// An HTTP proxy that is asked to `CONNECT`, and the hosts that are reached without it.
#[derive(Debug, Clone)]
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
}

impl Proxy {
    /// A proxy, and in the manner of curl's `NO_PROXY` the hosts, domains and networks that are reached without it.
    pub fn new(url: &str, no_proxy: &str) -> Result<Self, ProxyError> {
        let parsed: Uri = url.parse().map_err(|_| ProxyError::Url)?;
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
        assert!(!format!("{proxy:?}").contains("hunter2"));
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
}
