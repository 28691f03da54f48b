//! What the Deployments of pullpass say of its settings, which are flags or variables of the environment.

use std::path::{Path, PathBuf};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Container, KeyToPath, PodSpec, Volume};

use crate::api::names::{SERVING_CERTIFICATE_FILE, TLS_CERTIFICATE_KEY, WEBHOOK_CERTIFICATE};

/// A setting.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting {
    flag: &'static str,
    variable: &'static str,
}

/// Whether pullpass carries `AcrPullBindings` out.
pub(super) const BINDINGS: Setting = Setting {
    flag: "--bindings",
    variable: "PULLPASS_BINDINGS",
};
/// Whether it writes Reports.
pub(super) const REPORTS: Setting = Setting {
    flag: "--reports",
    variable: "PULLPASS_REPORTS",
};
const TLS_CERT: Setting = Setting {
    flag: "--tls-cert",
    variable: "PULLPASS_TLS_CERT",
};
const TLS_KEY: Setting = Setting {
    flag: "--tls-key",
    variable: "PULLPASS_TLS_KEY",
};

impl Setting {
    /// Whether a Deployment turns it on.
    pub(super) fn is_on(self, deployment: &Deployment) -> bool {
        let mut containers = pod(deployment).into_iter().flat_map(|pod| &pod.containers);
        containers.any(|container| {
            words(container).any(|word| word == self.flag) || self.variable_of(container) == Some("true")
        })
    }

    /// What a container gives for it.
    fn value(self, container: &Container) -> Option<&str> {
        let mut words = words(container);
        while let Some(word) = words.next() {
            match word.strip_prefix(self.flag) {
                Some("") => return words.next(),
                Some(rest) if rest.starts_with('=') => return rest.strip_prefix('='),
                Some(_) | None => {}
            }
        }
        self.variable_of(container)
    }

    fn variable_of(self, container: &Container) -> Option<&str> {
        let mut variables = container.env.iter().flatten();
        variables
            .find(|variable| variable.name == self.variable)?
            .value
            .as_deref()
    }
}

/// Where the serving certificate is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CertificateSource {
    /// In the Secret that pullpass manages itself.
    Own,
    /// In what is mounted where pullpass is told to look: keys of Secrets, none of them if it is something else.
    Mounted(Vec<SecretKey>),
}

/// A key of a Secret in pullpass' own namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SecretKey {
    pub(super) secret: String,
    pub(super) key: String,
}

impl CertificateSource {
    /// Where the Deployments of a namespace have it.
    pub(super) fn of(deployments: &[Deployment], own_namespace: &str) -> Self {
        let own = deployments
            .iter()
            .filter(|deployment| deployment.metadata.namespace.as_deref() == Some(own_namespace));
        let mut keys = Vec::new();
        let mut is_own = true;
        for pod in own.filter_map(pod) {
            for container in &pod.containers {
                if let Some(path) = certificate_path(container) {
                    is_own = false;
                    keys.extend(mounted_at(pod, container, &path));
                }
            }
        }
        if is_own { Self::Own } else { Self::Mounted(keys) }
    }

    /// The keys of Secrets that have it.
    pub(super) fn keys(self) -> Vec<SecretKey> {
        match self {
            Self::Own => vec![SecretKey {
                secret: WEBHOOK_CERTIFICATE.to_owned(),
                key: TLS_CERTIFICATE_KEY.to_owned(),
            }],
            Self::Mounted(keys) => keys,
        }
    }
}

/// The file that a container serves its certificate from; none if pullpass manages the certificate itself.
fn certificate_path(container: &Container) -> Option<PathBuf> {
    match (TLS_CERT.value(container), TLS_KEY.value(container)) {
        (Some(path), _) => Some(path.into()),
        (None, Some(_)) => Some(SERVING_CERTIFICATE_FILE.into()),
        (None, None) => None,
    }
}

/// The keys of Secrets that a file of a container may be made from.
fn mounted_at(pod: &PodSpec, container: &Container, path: &Path) -> Vec<SecretKey> {
    let mounts = container.volume_mounts.iter().flatten();
    let within = mounts.filter_map(|mount| Some((mount, path.strip_prefix(&mount.mount_path).ok()?)));
    // The innermost mount hides the others.
    let Some((mount, rest)) = within.min_by_key(|(_, rest)| rest.components().count()) else {
        return Vec::new();
    };
    let file = match &mount.sub_path {
        Some(within) if rest.as_os_str().is_empty() => PathBuf::from(within),
        Some(within) => Path::new(within).join(rest),
        None => rest.to_owned(),
    };
    let mut volumes = pod.volumes.iter().flatten();
    let volume = volumes.find(|volume| volume.name == mount.name);
    let sources = volume.into_iter().flat_map(secrets_of);
    let keys = sources.filter_map(|(secret, items)| {
        let key = match items {
            Some(items) => items
                .iter()
                .find(|item| Path::new(&item.path) == file)?
                .key
                .clone(),
            None => file.to_str()?.to_owned(),
        };
        Some(SecretKey {
            secret: secret.to_owned(),
            key,
        })
    });
    keys.collect()
}

/// The Secrets of a volume, and which of their keys it has, if not all.
fn secrets_of(volume: &Volume) -> Vec<(&str, Option<&[KeyToPath]>)> {
    let whole = volume
        .secret
        .iter()
        .filter_map(|secret| Some((secret.secret_name.as_deref()?, secret.items.as_deref())));
    let projected = volume.projected.iter().flat_map(|volume| &volume.sources);
    let parts = projected
        .flatten()
        .filter_map(|source| source.secret.as_ref())
        .map(|secret| (secret.name.as_str(), secret.items.as_deref()));
    whole.chain(parts).collect()
}

fn pod(deployment: &Deployment) -> Option<&PodSpec> {
    deployment.spec.as_ref()?.template.spec.as_ref()
}

fn words(container: &Container) -> impl Iterator<Item = &str> {
    let words = container.command.iter().chain(&container.args).flatten();
    words.map(String::as_str)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn deployment(container: &Value, volumes: &Value) -> Deployment {
        let pod = json!({"containers": [container], "volumes": volumes});
        serde_json::from_value(json!({
            "metadata": {"name": "pullpass", "namespace": "pullpass-system"},
            "spec": {"selector": {}, "template": {"spec": pod}},
        }))
        .unwrap()
    }

    #[test]
    fn a_deployment_says_by_a_variable_or_a_flag_that_it_is_on() {
        let on = |container: Value| BINDINGS.is_on(&deployment(&container, &json!([])));
        let variable =
            |value: &str| json!({"name": "pullpass", "env": [{"name": "PULLPASS_BINDINGS", "value": value}]});
        assert!(on(variable("true")));
        assert!(!on(variable("false")));
        assert!(on(json!({"name": "pullpass", "args": ["serve", "--bindings"]})));
        assert!(!on(json!({"name": "pullpass"})));
        assert!(!BINDINGS.is_on(&Deployment::default()));
    }

    /// Another Secret is mounted too, as one with the authority of clients.
    fn source(args: &[&str], env: &Value, mount: &Value, volume: &Value) -> CertificateSource {
        let container = json!({
            "name": "pullpass", "args": args, "env": env,
            "volumeMounts": [{"name": "other", "mountPath": "/etc/pullpass"}, mount],
        });
        let volumes = json!([{"name": "other", "secret": {"secretName": "client-ca"}}, volume]);
        CertificateSource::of(&[deployment(&container, &volumes)], "pullpass-system")
    }

    fn key(secret: &str, key: &str) -> CertificateSource {
        CertificateSource::Mounted(vec![SecretKey {
            secret: secret.to_owned(),
            key: key.to_owned(),
        }])
    }

    #[test]
    fn a_certificate_is_in_the_secret_that_its_path_leads_to() {
        let directory = json!({"name": "tls", "mountPath": "/etc/pullpass/tls"});
        let whole = json!({"name": "tls", "secret": {"secretName": "serving"}});
        let none = json!([]);
        let variable = |name: &str, value: &str| json!([{"name": name, "value": value}]);
        let by_variable = variable("PULLPASS_TLS_CERT", "/etc/pullpass/tls/tls.crt");
        assert_eq!(
            source(&["serve"], &none, &directory, &whole),
            CertificateSource::Own
        );
        assert_eq!(
            source(&[], &by_variable, &directory, &whole),
            key("serving", "tls.crt")
        );
        let by_key = variable("PULLPASS_TLS_KEY", "/etc/pullpass/tls/tls.key");
        assert_eq!(
            source(&[], &by_key, &directory, &whole),
            key("serving", "tls.crt")
        );
        // A flag wins.
        for flags in [
            &["--tls-cert", "/etc/pullpass/tls/a.pem"][..],
            &["--tls-cert=/etc/pullpass/tls/a.pem"],
        ] {
            assert_eq!(
                source(flags, &by_variable, &directory, &whole),
                key("serving", "a.pem")
            );
        }
        let items = json!([{"key": "chain", "path": "tls.crt"}]);
        let renamed = json!({"name": "tls", "secret": {"secretName": "serving", "items": items}});
        assert_eq!(
            source(&[], &by_variable, &directory, &renamed),
            key("serving", "chain")
        );
        let projected = json!({"name": "tls", "projected": {"sources": [{"secret": {"name": "serving", "items": items}}]}});
        assert_eq!(
            source(&[], &by_variable, &directory, &projected),
            key("serving", "chain")
        );
        let file = json!({"name": "tls", "mountPath": "/etc/pullpass/tls/tls.crt", "subPath": "chain"});
        assert_eq!(source(&[], &by_variable, &file, &whole), key("serving", "chain"));
        let other = json!({"name": "tls", "csi": {"driver": "secrets-store.csi.k8s.io"}});
        assert_eq!(
            source(&[], &by_variable, &directory, &other),
            CertificateSource::Mounted(Vec::new())
        );
    }

    #[test]
    fn a_deployment_elsewhere_says_nothing_of_the_certificate() {
        let container = json!({"name": "pullpass", "args": ["--tls-cert=/tls/tls.crt"]});
        let found = CertificateSource::of(&[deployment(&container, &json!([]))], "elsewhere");
        assert_eq!(found, CertificateSource::Own);
    }
}
