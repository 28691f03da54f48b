//! Proxies: those of the environment, and the one that a kubeconfig names.

use http::Uri;
use kube::config::Kubeconfig;
use pullpass::http::Proxy;

/// A proxy that is taken is a URL that can be asked, and an error never repeats the URL, in which a password may be.
///
/// The input is the proxy's URL, the exceptions, and where to; or a kubeconfig.
pub fn check(input: &[u8]) {
    let Some([proxy, exceptions, target]) = crate::lines(input) else {
        return;
    };
    check_proxy(proxy, exceptions, target);
    let Ok(kubeconfig) = Kubeconfig::from_yaml(crate::text(input).unwrap_or_default()) else {
        return;
    };
    for cluster in kubeconfig
        .clusters
        .iter()
        .filter_map(|named| named.cluster.as_ref())
    {
        let target = cluster.server.as_deref().unwrap_or_default();
        check_proxy(cluster.proxy_url.as_deref().unwrap_or_default(), "", target);
    }
}

fn check_proxy(proxy: &str, exceptions: &str, target: &str) {
    let variable = |name: &str| match name {
        "HTTPS_PROXY" => Some(proxy.to_owned()),
        "NO_PROXY" => Some(exceptions.to_owned()),
        _ => None,
    };
    let given = proxy;
    let proxy = match Proxy::from_variables(variable) {
        Ok(Some(proxy)) => proxy,
        Ok(None) => {
            assert!(given.is_empty());
            return;
        }
        Err(error) => {
            assert!(!error.to_string().contains("hunter2"));
            return;
        }
    };
    assert_eq!(format!("{proxy:?}"), "Proxy { .. }");
    assert!(
        given.matches('@').count() <= 1,
        "whatever is before an @ is a user"
    );
    let Ok(target) = target.parse::<Uri>() else { return };
    let url = proxy.url_for(&target).expect("it was parsed before");
    if let Some(url) = url {
        assert_eq!(url.scheme_str(), Some("http"));
        assert!(url.host().is_some_and(|host| !host.is_empty()));
        let authority = url.authority().expect("it has a host").as_str();
        assert_eq!(
            authority.contains('@'),
            given.contains('@'),
            "no user reads as a host"
        );
    }
}
