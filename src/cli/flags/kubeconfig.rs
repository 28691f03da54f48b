//! Which cluster a command talks to, as kubectl's own flags say it.

use std::error::Error;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use http::Uri;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

use crate::api::advice::with_advice;
use crate::api::names::{EDIT_ROLE, VIEW_ROLE};
use crate::cli::CliError;
use crate::cli::flags::impersonation::ImpersonationFlags;
use crate::cli::flags::seconds::seconds;
use crate::http::{Proxy, ProxyError};
use crate::kubernetes::call::CallError;
use crate::kubernetes::client::client_within;
use crate::kubernetes::words::{Words, words};

#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Cluster")]
pub(in crate::cli) struct KubeFlags {
    /// The kubeconfig file, instead of $KUBECONFIG or ~/.kube/config; in a Pod without one, its ServiceAccount is used
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context, instead of its current one
    #[arg(long, value_name = "NAME", add = ArgValueCandidates::new(contexts))]
    context: Option<String>,
    /// The kubeconfig's cluster, instead of the context's
    #[arg(long = "cluster", value_name = "NAME")]
    cluster_name: Option<String>,
    /// The kubeconfig's user, instead of the context's
    #[arg(long = "user", value_name = "NAME")]
    user_name: Option<String>,
    #[command(flatten)]
    impersonation: ImpersonationFlags,
    /// The longest time for a request to the API server; only values below the default (10s) have an effect, and 0 has none
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    request_timeout: Option<Duration>,
}

/// What --context can be, as far as the files that are read without --kubeconfig say.
fn contexts() -> Vec<CompletionCandidate> {
    let kubeconfig = Kubeconfig::read().unwrap_or_default();
    let names = kubeconfig.contexts.into_iter().map(|context| context.name);
    names.map(CompletionCandidate::new).collect()
}

impl KubeFlags {
    /// A client of that cluster.
    pub(in crate::cli) async fn client(&self) -> Result<Client, CliError> {
        let problem = |error: &(dyn Error + 'static)| {
            CliError::Cluster(format!(
                "{}. Name one with --kubeconfig and --context",
                words(error)
            ))
        };
        let mut own_proxy = None;
        let mut config = match self.read() {
            Ok(kubeconfig) => {
                let options = KubeConfigOptions {
                    context: self.context.clone(),
                    cluster: self.cluster_name.clone(),
                    user: self.user_name.clone(),
                };
                own_proxy = proxy_of(&kubeconfig, &options).map(str::to_owned);
                let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
                config.map_err(|error| problem(&error))?
            }
            // As kubectl does in a Pod: it acts as the Pod's ServiceAccount. Elsewhere, the missing file is what to say.
            Err(error) if self.is_unnamed() && is_missing(&error) => {
                Config::incluster().map_err(|_| problem(&error))?
            }
            Err(error) => return Err(problem(&error)),
        };
        config.proxy_url = proxy_to(&config.cluster_url, own_proxy.as_deref(), Proxy::from_environment)
            .map_err(|error| CliError::Cluster(error.to_string()))?;
        let impersonation = self.impersonation.headers(&config.auth_info);
        config.headers.extend(impersonation.map_err(CliError::Input)?);
        let timeout = self.request_timeout.filter(|timeout| !timeout.is_zero());
        client_within(timeout, config).map_err(|error| problem(&error))
    }

    /// The name of the context that is used, where the kubeconfig has one.
    pub(in crate::cli) fn context_name(&self) -> Option<String> {
        self.context.clone().or_else(|| self.read().ok()?.current_context)
    }

    /// The namespace of the context that is used, by kubectl's rules: in a Pod without a kubeconfig, the Pod's.
    pub(in crate::cli) fn context_namespace(&self) -> Option<String> {
        let of_pod = || Some(Config::incluster().ok()?.default_namespace);
        self.namespace_of(self.read(), of_pod)
    }

    fn namespace_of(
        &self,
        read: Result<Kubeconfig, KubeconfigError>,
        of_pod: impl FnOnce() -> Option<String>,
    ) -> Option<String> {
        let kubeconfig = match read {
            Ok(kubeconfig) => kubeconfig,
            Err(error) if self.is_unnamed() && is_missing(&error) => return of_pod(),
            Err(_) => return None,
        };
        let name = self.context.as_ref().or(kubeconfig.current_context.as_ref())?;
        let mut contexts = kubeconfig.contexts.iter();
        let context = contexts.find(|context| context.name == *name)?.context.as_ref()?;
        context
            .namespace
            .clone()
            .filter(|namespace| !namespace.is_empty())
    }

    /// The context that the flag names.
    pub(in crate::cli) fn given_context(&self) -> Option<&str> {
        self.context.as_deref()
    }

    /// Whether no flag names a cluster, or a file that would.
    pub(in crate::cli) fn is_unnamed(&self) -> bool {
        let names = [&self.context, &self.cluster_name, &self.user_name];
        self.kubeconfig.is_none() && names.into_iter().all(Option::is_none)
    }

    fn read(&self) -> Result<Kubeconfig, KubeconfigError> {
        match &self.kubeconfig {
            Some(path) => Kubeconfig::read_from(path),
            None => Kubeconfig::read(),
        }
    }
}

/// Whether there is no kubeconfig, rather than a bad one.
fn is_missing(error: &KubeconfigError) -> bool {
    match error {
        KubeconfigError::FindPath => true,
        KubeconfigError::ReadConfig(error, _) => error.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}

/// The proxy that a kubeconfig names for the cluster that is chosen.
fn proxy_of<'a>(kubeconfig: &'a Kubeconfig, options: &'a KubeConfigOptions) -> Option<&'a str> {
    let of_context = || {
        let name = options.context.as_ref().or(kubeconfig.current_context.as_ref())?;
        let context = kubeconfig.contexts.iter().find(|context| context.name == *name)?;
        Some(&context.context.as_ref()?.cluster)
    };
    let cluster = options.cluster.as_ref().or_else(of_context)?;
    let named = kubeconfig.clusters.iter().find(|named| named.name == *cluster)?;
    let url = named.cluster.as_ref()?.proxy_url.as_deref()?;
    Some(url).filter(|url| !url.is_empty())
}

/// The proxy to a cluster, as kubectl has it: the kubeconfig's own, or else the environment's, from which addresses of the
/// machine itself are excepted. kube would take the environment's without regard to the cluster's address.
fn proxy_to(
    cluster: &Uri,
    own: Option<&str>,
    environment: impl FnOnce() -> Result<Option<Proxy>, ProxyError>,
) -> Result<Option<Uri>, ProxyError> {
    if let Some(own) = own {
        return Proxy::new(own, "")?.url_for(cluster);
    }
    let host = cluster.host().unwrap_or_default();
    let address = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>();
    if host == "localhost" || address.is_ok_and(|address| address.is_loopback()) {
        return Ok(None);
    }
    match environment()? {
        Some(proxy) => proxy.url_for(cluster),
        None => Ok(None),
    }
}

/// What a call to the API server failed of: its own words, or else the error with all its causes.
pub(in crate::cli) fn refusal(what: &str, error: &impl Words) -> CliError {
    CliError::Cluster(format!("{what}: {}", error.words()))
}

/// The `ClusterRole` that has the rights for a call.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) enum Role<'a> {
    /// It looks at what pullpass is told to do, in the whole cluster.
    View,
    /// It changes that.
    Edit,
    /// It changes that only for a namespace.
    Bind(&'a str),
    /// It changes who may do what in a namespace.
    Owner(&'a str),
    /// It looks at a namespace; without its name, at all of them.
    Namespace(Option<&'a str>),
}

impl Role<'_> {
    /// What is refused for lack of a right, with whom it is asked for.
    pub(in crate::cli) fn told(self, refused: &str) -> String {
        with_advice(refused, Some(&self.advice()))
    }

    fn advice(self) -> String {
        match self {
            Self::View | Self::Edit => {
                let role = if matches!(self, Self::View) {
                    VIEW_ROLE
                } else {
                    EDIT_ROLE
                };
                format!("ask for a ClusterRoleBinding to the ClusterRole {role}")
            }
            Self::Bind(name) => {
                format!("ask for a RoleBinding to the ClusterRole {EDIT_ROLE} in namespace {name}")
            }
            Self::Owner(name) => {
                format!("ask for a RoleBinding to the ClusterRole admin in namespace {name}")
            }
            Self::Namespace(Some(name)) => {
                format!("ask for a RoleBinding to the ClusterRole view in namespace {name}")
            }
            Self::Namespace(None) => {
                "name a namespace with --namespace, or ask for a ClusterRoleBinding to the ClusterRole view"
                    .to_owned()
            }
        }
    }
}

/// What a call to the API server failed of, with whom a right that is missing is asked for.
pub(in crate::cli) fn refusal_without(role: Role<'_>, what: &str, error: &CallError) -> CliError {
    let advice = (error.code() == Some(403)).then(|| role.advice());
    let cause = format!("{what}: {}", error.words());
    CliError::Cluster(with_advice(&cause, advice.as_deref()))
}

/// Why the attached registries can't be listed.
pub(in crate::cli) fn unlisted(error: &CallError) -> CliError {
    let what = "AcrRegistries can't be listed; is pullpass installed";
    refusal_without(Role::View, what, error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn through(cluster: &str, own: Option<&str>) -> Option<Uri> {
        let environment = || Proxy::new("http://env.example:3128", "10.0.0.0/8,inside.example").map(Some);
        proxy_to(&cluster.parse().unwrap(), own, environment).unwrap()
    }

    #[test]
    fn a_cluster_is_reached_as_kubectl_reaches_it() {
        let environments = Some(Uri::from_static("http://env.example:3128"));
        let own = Some(Uri::from_static("http://user:pw@own.example:3128"));
        let given = Some("http://user:pw@own.example:3128");
        for (cluster, named, expected) in [
            ("https://api.example:6443/", None, &environments),
            ("https://api.inside.example/", None, &None),
            ("https://10.1.2.3:6443/", None, &None),
            ("https://127.0.0.1:6443/", None, &None),
            ("https://[::1]:6443/", None, &None),
            ("https://localhost:6443/", None, &None),
            ("https://api.example:6443/", given, &own),
            ("https://10.1.2.3:6443/", given, &own),
            ("https://127.0.0.1:6443/", given, &own),
        ] {
            assert_eq!(&through(cluster, named), expected, "{cluster} {named:?}");
        }
        let none = proxy_to(&"https://api.example".parse().unwrap(), None, || Ok(None));
        assert_eq!(none, Ok(None));
    }

    #[test]
    fn a_proxy_that_can_not_be_used_is_said_without_its_password() {
        let cluster = "https://api.example".parse().unwrap();
        let error = proxy_to(&cluster, Some("socks5://user:hunter2@own.example"), || Ok(None)).unwrap_err();
        assert_eq!(error, ProxyError::Scheme);
    }

    #[test]
    fn a_missing_right_is_said_with_its_role() {
        let error = |code: u16| {
            let status = json!({"status": "Failure", "message": "no", "code": code});
            CallError::from(kube::Error::Api(Box::new(
                serde_json::from_value(status).unwrap(),
            )))
        };
        for (role, named) in [
            (Role::View, "ClusterRole pullpass-view"),
            (Role::Edit, "ClusterRole pullpass-edit"),
            (Role::Bind("apps"), "ClusterRole pullpass-edit in namespace apps"),
            (Role::Owner("apps"), "ClusterRole admin in namespace apps"),
            (
                Role::Namespace(Some("apps")),
                "ClusterRole view in namespace apps",
            ),
            (Role::Namespace(None), "--namespace"),
        ] {
            let said = refusal_without(role, "it can't be read", &error(403)).to_string();
            assert!(said.contains("it can't be read: no. What to do: "), "{said}");
            assert!(said.contains(named), "{said}");
            let other = refusal_without(role, "it can't be read", &error(500)).to_string();
            assert!(other.ends_with("it can't be read: no"), "{other}");
        }
    }

    #[test]
    fn the_proxy_is_that_of_the_contexts_cluster() {
        let kubeconfig: Kubeconfig = serde_json::from_value(json!({
            "clusters": [
                {"name": "a", "cluster": {"server": "https://a.example", "proxy-url": "http://p.example"}},
                {"name": "b", "cluster": {"server": "https://b.example", "proxy-url": ""}},
            ],
            "contexts": [
                {"name": "to-a", "context": {"cluster": "a"}},
                {"name": "to-b", "context": {"cluster": "b"}},
            ],
            "current-context": "to-a",
        }))
        .unwrap();
        for (context, cluster, proxy) in [
            (None, None, Some("http://p.example")),
            (Some("to-a"), None, Some("http://p.example")),
            (Some("to-b"), None, None),
            (Some("to-c"), None, None),
            (Some("to-a"), Some("b"), None),
            (Some("to-b"), Some("a"), Some("http://p.example")),
        ] {
            let options = KubeConfigOptions {
                context: context.map(str::to_owned),
                cluster: cluster.map(str::to_owned),
                user: None,
            };
            assert_eq!(proxy_of(&kubeconfig, &options), proxy, "{context:?} {cluster:?}");
        }
    }

    #[test]
    fn the_namespace_is_the_contexts_or_the_pods() {
        let kubeconfig = |namespace: &str| -> Result<Kubeconfig, KubeconfigError> {
            Ok(serde_json::from_value(json!({
                "contexts": [{"name": "to-a", "context": {"cluster": "a", "namespace": namespace}}],
                "current-context": "to-a",
            }))
            .unwrap())
        };
        let missing = || Err(KubeconfigError::FindPath);
        let bad = || Err(KubeconfigError::CurrentContextNotSet);
        let unnamed = KubeFlags::default();
        let named = KubeFlags {
            context: Some("to-b".to_owned()),
            ..KubeFlags::default()
        };
        for (flags, read, expected) in [
            (&unnamed, kubeconfig("shop"), Some("shop")),
            (&unnamed, kubeconfig(""), None),
            (&named, kubeconfig("shop"), None),
            (&unnamed, missing(), Some("of-pod")),
            (&named, missing(), None),
            (&unnamed, bad(), None),
        ] {
            let namespace = flags.namespace_of(read, || Some("of-pod".to_owned()));
            assert_eq!(namespace.as_deref(), expected);
        }
    }
}
