//! Which Secrets of pullpass' own namespace an AcrRegistry may use: those that name it.
//!
//! `AcrRegistries` are often written by people who may read no Secret there. What an AcrRegistry names can reach any
//! namespace, so the Secret itself has to agree.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use thiserror::Error;

use crate::api::advice::with_advice;
use crate::api::names::{MANAGED_BY_LABEL, MANAGER, REGISTRIES_ANNOTATION, TLS_TYPE, is_own_secret};

/// The types of Secrets that people keep identities in. All others, such as service account tokens and Helm releases,
/// have a purpose of their own.
const TYPES: [&str; 3] = ["Opaque", "kubernetes.io/basic-auth", TLS_TYPE];

/// Stands for every AcrRegistry in the annotation.
const EVERY: &str = "*";

/// Why an AcrRegistry may not use a Secret. It repeats nothing of the Secret but its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The Secret is pullpass' own.
    Own,
    /// Its type is not one that identities are kept in.
    Type,
    /// It names no AcrRegistry.
    NamesNone,
    /// It names other `AcrRegistries`.
    NamesOthers,
}

/// What the annotation of a Secret says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Users<'a>(BTreeSet<&'a str>);

impl<'a> Users<'a> {
    /// Reads the annotation's value.
    pub fn parse(annotation: Option<&'a str>) -> Self {
        let names = annotation.unwrap_or_default().split(',').map(str::trim);
        Self(names.filter(|name| !name.is_empty()).collect())
    }

    /// Reads the annotation of a Secret.
    pub fn of(metadata: &'a ObjectMeta) -> Self {
        let annotations = metadata.annotations.as_ref();
        let annotation = annotations.and_then(|annotations| annotations.get(REGISTRIES_ANNOTATION));
        Self::parse(annotation.map(String::as_str))
    }

    /// Whether an AcrRegistry of this name may use the Secret.
    pub fn include(&self, registry: &str) -> bool {
        self.0.contains(registry) || self.0.contains(EVERY)
    }

    /// Whether nobody may use the Secret.
    pub fn are_none(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an AcrRegistry of another name may use the Secret.
    pub fn include_others(&self, registry: &str) -> bool {
        self.0.iter().any(|name| *name != registry)
    }

    /// The annotation's value that lets this AcrRegistry use the Secret too.
    #[must_use]
    pub fn with(self, registry: &'a str) -> String {
        let Self(mut names) = self;
        if !names.contains(EVERY) {
            names.insert(registry);
        }
        names.into_iter().collect::<Vec<_>>().join(",")
    }
}

/// Whether a Secret of this name may be looked at on behalf of an AcrRegistry.
pub fn check_name(secret: &str) -> Result<(), Refusal> {
    if is_own_secret(secret) {
        Err(Refusal::Own)
    } else {
        Ok(())
    }
}

/// Whether the metadata of a Secret of the own namespace lets the AcrRegistry of this name use it.
pub fn check_metadata(metadata: &ObjectMeta, registry: &str) -> Result<(), Refusal> {
    check_name(metadata.name.as_deref().unwrap_or_default())?;
    let label = metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(MANAGED_BY_LABEL));
    if label.is_some_and(|manager| manager == MANAGER) {
        return Err(Refusal::Own);
    }
    let users = Users::of(metadata);
    if users.include(registry) {
        Ok(())
    } else if users.are_none() {
        Err(Refusal::NamesNone)
    } else {
        Err(Refusal::NamesOthers)
    }
}

/// Whether the AcrRegistry of this name may use a Secret of the own namespace.
pub fn check(secret: &Secret, registry: &str) -> Result<(), Refusal> {
    let outcome = check_metadata(&secret.metadata, registry);
    let is_type = secret.type_.as_deref().is_some_and(|kind| TYPES.contains(&kind));
    // An annotation would not help it.
    if !is_type && outcome != Err(Refusal::Own) {
        return Err(Refusal::Type);
    }
    outcome
}

/// A refusal, in words that say what the Secret's owner can do.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}", self.text())]
pub struct Refused<'a> {
    /// Why.
    pub refusal: Refusal,
    /// The Secret's name.
    pub secret: &'a str,
    /// The namespace that it is in.
    pub namespace: &'a str,
    /// The AcrRegistry that names it.
    pub registry: &'a str,
}

impl Refused<'_> {
    fn text(&self) -> String {
        let Self {
            refusal,
            secret,
            namespace,
            registry,
        } = self;
        let another = |why: String| {
            let advice = format!(
                "keep the identity in a Secret of its own, name that one in spec.identity, and have its owner run \
                 `kubectl annotate secret NAME {REGISTRIES_ANNOTATION}={registry} -n {namespace}`"
            );
            with_advice(
                &format!("Secret {secret} in namespace {namespace} {why}"),
                Some(&advice),
            )
        };
        let unnamed = format!(
            "Secret {secret} in namespace {namespace} does not name AcrRegistry {registry} in its annotation \
             {REGISTRIES_ANNOTATION}"
        );
        match refusal {
            Refusal::Own => another("belongs to pullpass itself, and no AcrRegistry may use it".to_owned()),
            Refusal::Type => another(format!("is not of a type that is used: {}", TYPES.join(", "))),
            Refusal::NamesNone => {
                let advice = format!(
                    "have its owner run `kubectl annotate secret {secret} {REGISTRIES_ANNOTATION}={registry} -n {namespace}`"
                );
                with_advice(&unnamed, Some(&advice))
            }
            Refusal::NamesOthers => {
                let advice = format!(
                    "have its owner run `kubectl annotate secret {secret} --overwrite \
                     {REGISTRIES_ANNOTATION}=OTHERS,{registry} -n {namespace}`, with the names that are there now in place \
                     of OTHERS"
                );
                with_advice(&format!("{unnamed}, which names others"), Some(&advice))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::ResourceExt;
    use serde_json::json;

    const OTHER: &str = "not-to-be-repeated";

    fn secret(name: &str, kind: &str, annotation: Option<&str>) -> Secret {
        serde_json::from_value(json!({
            "metadata": {"name": name, "annotations": annotation.map(|names| json!({"pullpass.dev/registries": names}))},
            "type": kind,
        }))
        .unwrap()
    }

    #[test]
    fn types_that_hold_identities_are_used() {
        for (kind, outcome) in [
            ("Opaque", Ok(())),
            ("kubernetes.io/basic-auth", Ok(())),
            ("kubernetes.io/tls", Ok(())),
            ("kubernetes.io/dockerconfigjson", Err(Refusal::Type)),
            ("kubernetes.io/dockercfg", Err(Refusal::Type)),
            ("kubernetes.io/service-account-token", Err(Refusal::Type)),
            ("kubernetes.io/ssh-auth", Err(Refusal::Type)),
            ("bootstrap.kubernetes.io/token", Err(Refusal::Type)),
            ("helm.sh/release.v1", Err(Refusal::Type)),
            ("opaque", Err(Refusal::Type)),
            ("", Err(Refusal::Type)),
        ] {
            assert_eq!(
                check(&secret("acr-sp", kind, Some("*")), "alphareg"),
                outcome,
                "{kind}"
            );
        }
        assert_eq!(check(&Secret::default(), "alphareg"), Err(Refusal::Type));
    }

    #[test]
    fn the_annotation_names_who_may_use_a_secret() {
        for (annotation, outcome) in [
            (Some("alphareg"), Ok(())),
            (Some("betareg,alphareg"), Ok(())),
            (Some(" betareg , alphareg "), Ok(())),
            (Some("*"), Ok(())),
            (Some("betareg,*"), Ok(())),
            (None, Err(Refusal::NamesNone)),
            (Some(""), Err(Refusal::NamesNone)),
            (Some(" , "), Err(Refusal::NamesNone)),
            (Some("betareg"), Err(Refusal::NamesOthers)),
            (Some("alphareg2"), Err(Refusal::NamesOthers)),
            (Some("alpha"), Err(Refusal::NamesOthers)),
            (Some("alpha*"), Err(Refusal::NamesOthers)),
            (Some("AlphaReg"), Err(Refusal::NamesOthers)),
            (Some("betareg alphareg"), Err(Refusal::NamesOthers)),
            (Some("betareg;alphareg"), Err(Refusal::NamesOthers)),
        ] {
            let secret = secret("acr-sp", "Opaque", annotation);
            assert_eq!(check(&secret, "alphareg"), outcome, "{annotation:?}");
        }
    }

    #[test]
    fn a_secret_of_pullpass_is_refused_whatever_it_names() {
        for name in [
            "webhook-certificate",
            "serving-certificate",
            "serving-authority",
            "credential-alphareg",
            "credential-",
        ] {
            assert_eq!(check_name(name), Err(Refusal::Own), "{name}");
            assert_eq!(
                check(&secret(name, "Opaque", Some("*")), "alphareg"),
                Err(Refusal::Own)
            );
        }
        let mut labelled = secret("acr-sp", "Opaque", Some("*"));
        labelled
            .labels_mut()
            .insert(MANAGED_BY_LABEL.to_owned(), MANAGER.to_owned());
        assert_eq!(check(&labelled, "alphareg"), Err(Refusal::Own));
        for name in ["identity-alphareg", "credentials", "my-credential-alphareg"] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn a_name_is_added_to_those_that_are_there() {
        for (annotation, expected) in [
            (None, "alphareg"),
            (Some(""), "alphareg"),
            (Some("alphareg"), "alphareg"),
            (Some("betareg"), "alphareg,betareg"),
            (Some("gamma, betareg"), "alphareg,betareg,gamma"),
            (Some("*"), "*"),
        ] {
            assert_eq!(
                Users::parse(annotation).with("alphareg"),
                expected,
                "{annotation:?}"
            );
        }
    }

    #[test]
    fn others_are_told_from_the_registry_itself() {
        for (annotation, expected) in [
            (None, false),
            (Some("alphareg"), false),
            (Some("betareg"), true),
            (Some("alphareg,betareg"), true),
            (Some("*"), true),
        ] {
            assert_eq!(
                Users::parse(annotation).include_others("alphareg"),
                expected,
                "{annotation:?}"
            );
        }
    }

    #[test]
    fn a_refusal_has_the_command_and_repeats_nothing() {
        let command = "kubectl annotate secret acr-sp pullpass.dev/registries=alphareg -n pullpass-system";
        for (secret, says) in [
            (secret("acr-sp", "Opaque", None), command),
            (
                secret("acr-sp", "Opaque", Some(OTHER)),
                "kubectl annotate secret acr-sp --overwrite pullpass.dev/registries=OTHERS,alphareg -n pullpass-system",
            ),
            (
                secret("acr-sp", OTHER, Some(OTHER)),
                "kubectl annotate secret NAME pullpass.dev/registries=alphareg -n pullpass-system",
            ),
            (
                secret("credential-betareg", OTHER, Some(OTHER)),
                "kubectl annotate secret NAME pullpass.dev/registries=alphareg -n pullpass-system",
            ),
        ] {
            let refused = Refused {
                refusal: check(&secret, "alphareg").unwrap_err(),
                secret: &secret.name_any(),
                namespace: "pullpass-system",
                registry: "alphareg",
            };
            let text = refused.to_string();
            assert!(text.contains(says), "{text}");
            assert!(!text.contains(OTHER), "{text}");
        }
    }
}
