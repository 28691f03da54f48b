//! The labels, annotations and names that users and other programs rely on (`docs/design.md`).

/// The namespace that pullpass runs in, unless `--own-namespace` names another.
pub const OWN_NAMESPACE: &str = "pullpass-system";
/// On a namespace: `enabled` or `disabled`. On a Pod: `disabled`.
pub const INJECT_LABEL: &str = "pullpass.dev/inject";
/// On a namespace: `"true"` gives every Pod the secret of every registry that the namespace may use.
pub const ALWAYS_INJECT_LABEL: &str = "pullpass.dev/always-inject";
/// On a Secret: the AcrRegistry that it was created for.
pub const REGISTRY_LABEL: &str = "pullpass.dev/registry";
/// On a Secret: the name of the AcrPullBinding that it was created for.
pub const BINDING_LABEL: &str = "pullpass.dev/binding";
/// On the minted credential of an AcrPullBinding: the namespace that the binding is in.
pub const BINDING_NAMESPACE_LABEL: &str = "pullpass.dev/binding-namespace";
/// On a Secret: when its credential expires (RFC 3339).
pub const EXPIRES_AT_ANNOTATION: &str = "pullpass.dev/expires-at";
/// On a Secret: when its credential was minted (RFC 3339).
pub const REFRESHED_AT_ANNOTATION: &str = "pullpass.dev/refreshed-at";
/// On a minted credential: the audience that was accepted.
pub const AUDIENCE_ANNOTATION: &str = "pullpass.dev/audience";
/// On a minted credential: what it was minted from, such as the version of the identity's Secret.
pub const INPUTS_ANNOTATION: &str = "pullpass.dev/inputs";
/// On a Secret in pullpass' own namespace: the names of the `AcrRegistries` that may use it, separated by commas, or `*` for
/// all.
pub const REGISTRIES_ANNOTATION: &str = "pullpass.dev/registries";
/// On a minted credential: the fingerprint of the spec that it was minted for.
pub const FINGERPRINT_ANNOTATION: &str = "pullpass.dev/spec-fingerprint";
/// On a minted credential: the fingerprint of `spec.namespaces` when the leader last found that the credential belongs to the
/// spec's identity. Empty if the identity's Secret is missing, or does not name the AcrRegistry.
pub const NAMESPACES_ANNOTATION: &str = "pullpass.dev/namespaces-fingerprint";
/// On the emptied credential of an AcrRegistry that is detached: when it was emptied (RFC 3339). The time is for
/// people; pullpass only checks whether the annotation exists.
pub const EMPTIED_AT_ANNOTATION: &str = "pullpass.dev/emptied-at";
/// On the emptied credential of an AcrRegistry that is detached: [`PULL_SECRETS_DELETED`] once its pull secrets are.
pub const PULL_SECRETS_ANNOTATION: &str = "pullpass.dev/pull-secrets";
/// The value of [`PULL_SECRETS_ANNOTATION`].
pub const PULL_SECRETS_DELETED: &str = "deleted";
/// On the Lease: a record of the pull secrets that its holder has cleaned up, for the next holder.
pub const SWEPT_ANNOTATION: &str = "pullpass.dev/swept";
/// On the Lease: an `AcrIndex` was written, so that the next holder notices if it was deleted. The value is `true`.
pub const INDEX_WRITTEN_ANNOTATION: &str = "pullpass.dev/index-written";
/// On the Secrets that pullpass creates: `pullpass`.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// The value of [`MANAGED_BY_LABEL`], and the field manager of every write.
pub const MANAGER: &str = "pullpass";
/// The field manager of a pull secret that has keys with ports and wildcards. A write without these keys conflicts with this
/// manager, so pullpass knows of them without the right to read pull secrets.
pub const EVERY_KEY_MANAGER: &str = "pullpass-every-key";
/// How the names of Reports begin; the UID of the workload follows.
pub const REPORT_PREFIX: &str = "pullpass-";
/// On a Report: a fingerprint of its content, without the time.
pub const REPORT_FINGERPRINT_ANNOTATION: &str = "pullpass.dev/report-fingerprint";
/// The `ClusterRole` of people who read `AcrRegistries` and `AcrPullBindings`.
pub const VIEW_ROLE: &str = "pullpass-view";
/// The `ClusterRole` of people who change them.
pub const EDIT_ROLE: &str = "pullpass-edit";
/// The field manager of fingerprints on a minted credential; [`MANAGER`] is that of the credential.
pub const NOTE_MANAGER: &str = "pullpass-note";
/// The `AcrIndex` that the admission policies read.
pub const INDEX: &str = "pullpass";
/// The annotation of a Pod that mirrors one that a kubelet runs from a file.
pub const MIRROR_POD_ANNOTATION: &str = "kubernetes.io/config.mirror";
/// On a Pod: an admission policy in the API server added names of pull secrets to it. `manifests/components/admission-policy`
/// writes it. The author of a Pod can write it too, so no decision depends on it.
pub const INJECTED_BY_ANNOTATION: &str = "pullpass.dev/injected-by";
/// The value of [`INJECTED_BY_ANNOTATION`] that the policy writes. Any other value is ignored.
pub const INJECTED_BY_POLICY: &str = "admission-policy";
/// On a ServiceAccount: the client ID of its identity, as for Azure Workload Identity.
pub const CLIENT_ID_ANNOTATION: &str = "azure.workload.identity/client-id";
/// On a ServiceAccount: the tenant of its identity, as for Azure Workload Identity.
pub const TENANT_ID_ANNOTATION: &str = "azure.workload.identity/tenant-id";
/// Who a ServiceAccount's tokens say that they are.
pub fn service_account_subject(namespace: &str, account: &str) -> String {
    format!("{SUBJECT_PREFIX}{namespace}:{account}")
}

/// What [`service_account_subject`] begins with.
pub const SUBJECT_PREFIX: &str = "system:serviceaccount:";

/// The name of the Role and of the RoleBinding by which the owner of a namespace grants pullpass tokens of a ServiceAccount.
pub fn token_grant(account: &str) -> String {
    format!("{MANAGER}-{account}")
}

/// The label with its own name that the API server gives every namespace.
pub const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// The type of a Secret with a certificate, as Kubernetes names it.
pub const TLS_TYPE: &str = "kubernetes.io/tls";
/// The key of the certificate in such a Secret.
pub const TLS_CERTIFICATE_KEY: &str = "tls.crt";
/// The key of the private key in such a Secret.
pub const TLS_PRIVATE_KEY_KEY: &str = "tls.key";
/// The file with the certificate, where one is in files and no other path is given.
pub const SERVING_CERTIFICATE_FILE: &str = "/etc/pullpass/tls/tls.crt";
/// Namespaces that are never injected: the cluster itself depends on them.
pub const SYSTEM_NAMESPACES: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];

/// What the name of every pull secret begins with; `manifests/base/fence.yaml` holds to it too.
const PULL_SECRET_PREFIX: &str = "pullpass-";

/// The name of the pull secret of an AcrRegistry, in every namespace that has it.
pub fn pull_secret(registry: &str) -> String {
    format!("{PULL_SECRET_PREFIX}{registry}")
}

/// The AcrRegistry whose pull secret has this name, if it can be one; the other way round of [`pull_secret`].
pub fn registry_of(pull_secret: &str) -> Option<&str> {
    pull_secret.strip_prefix(PULL_SECRET_PREFIX)
}

/// What follows [`PULL_SECRET_PREFIX`] in the name of the pull secret of an AcrPullBinding.
const BINDING_INFIX: &str = "binding-";

/// The AcrRegistry, if there is one of that name, whose pull secret has the name that an AcrPullBinding's has.
pub fn namesake_of_binding(binding: &str) -> String {
    format!("{BINDING_INFIX}{binding}")
}

/// The name of the pull secret of the AcrRegistry, or of the AcrPullBinding, that is known by this.
pub fn pull_secret_of(key: &str) -> String {
    match binding_of_key(key) {
        Some((_, binding)) => pull_secret(&namesake_of_binding(binding)),
        None => pull_secret(key),
    }
}

/// What an AcrPullBinding is known by in the program, where an AcrRegistry is known by its name: no AcrRegistry can have it.
pub fn binding_key(namespace: &str, binding: &str) -> String {
    format!("{namespace}/{binding}")
}

/// The namespace and the name of the AcrPullBinding that is known by this; none if it is the name of an AcrRegistry.
pub fn binding_of_key(key: &str) -> Option<(&str, &str)> {
    key.split_once('/')
}

/// What the name of every minted credential of an AcrRegistry begins with.
const MINTED_CREDENTIAL_PREFIX: &str = "credential-";
/// What that of an AcrPullBinding begins with; `manifests/base/fence.yaml` knows both.
const BINDING_CREDENTIAL_PREFIX: &str = "binding-credential-";

/// The name of the Secret in the own namespace with the minted credential of an AcrRegistry, or of the AcrPullBinding that is
/// known by a [`binding_key`]. A namespace has no dot in its name, so no two have the same.
pub fn minted_credential(key: &str) -> String {
    match binding_of_key(key) {
        Some((namespace, binding)) => format!("{BINDING_CREDENTIAL_PREFIX}{namespace}.{binding}"),
        None => format!("{MINTED_CREDENTIAL_PREFIX}{key}"),
    }
}

/// Whether a Secret of this name in the own namespace is kept for pullpass itself.
pub fn is_own_secret(name: &str) -> bool {
    [WEBHOOK_CERTIFICATE, SERVING_CERTIFICATE, SERVING_AUTHORITY].contains(&name)
        || [MINTED_CREDENTIAL_PREFIX, BINDING_CREDENTIAL_PREFIX]
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

/// The `MutatingWebhookConfiguration` of the manifests.
pub const WEBHOOK_CONFIGURATION: &str = "pullpass";
/// The webhook for Pods with images on ACR.
pub const PODS_WEBHOOK: &str = "pods.pullpass.dev";
/// The webhook for all other Pods of namespaces with [`ALWAYS_INJECT_LABEL`].
pub const ALWAYS_WEBHOOK: &str = "always.pullpass.dev";
/// The path of [`PODS_WEBHOOK`].
pub const PODS_PATH: &str = "/mutate";
/// The path of [`ALWAYS_WEBHOOK`].
pub const ALWAYS_PATH: &str = "/mutate/always";

/// Identifies refusals by the `ValidatingAdmissionPolicy` that keeps pullpass from foreign Secrets.
pub const FENCE: &str = "ValidatingAdmissionPolicy 'pullpass-secrets'";

/// The image by which `pullpass check` asks, in a dry run, whether pullpass answers. No registry has this host: a name of one has
/// letters and digits, and a hyphen only before 16 characters of Azure's choosing.
pub const ECHO_IMAGE: &str = "pullpass-check.azurecr.io/echo";
/// What the warning begins with that pullpass answers that question with; its version follows.
pub const ECHO_WARNING: &str = "pullpass.dev/echo: ";

/// The Service through which the API server calls the webhook.
pub const SERVICE: &str = "pullpass";
/// The Secret in the own namespace with pullpass' own certificate authority and serving certificate.
pub const WEBHOOK_CERTIFICATE: &str = "webhook-certificate";
/// The Secret in the own namespace in which the component `cert-manager` keeps the serving certificate.
pub const SERVING_CERTIFICATE: &str = "serving-certificate";
/// The Secret in the own namespace with the authority that signs [`SERVING_CERTIFICATE`].
pub const SERVING_AUTHORITY: &str = "serving-authority";
/// On the Secret [`WEBHOOK_CERTIFICATE`]: since when the API server trusts the next authority (RFC 3339).
pub const NEXT_CA_TRUSTED_SINCE_ANNOTATION: &str = "pullpass.dev/next-ca-trusted-since";
/// On the Secret [`WEBHOOK_CERTIFICATE`]: when the previous authority stopped signing (RFC 3339).
pub const PREVIOUS_CA_RETIRED_AT_ANNOTATION: &str = "pullpass.dev/previous-ca-retired-at";

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn labels_and_annotations_are_those_of_the_contract() {
        let page = include_str!("../../docs/design.md");
        // Between backticks, every second piece is code; `key: value` and `key` are both names of a key.
        let named: BTreeSet<&str> = page
            .split('`')
            .skip(1)
            .step_by(2)
            .filter_map(|code| code.split(':').next())
            .filter(|key| key.starts_with("pullpass.dev/") || key.starts_with("app.kubernetes.io/"))
            .collect();
        let group = "pullpass.dev/v1alpha1";
        let expected = BTreeSet::from([
            group,
            INJECT_LABEL,
            ALWAYS_INJECT_LABEL,
            REGISTRY_LABEL,
            BINDING_LABEL,
            BINDING_NAMESPACE_LABEL,
            MANAGED_BY_LABEL,
            EXPIRES_AT_ANNOTATION,
            REFRESHED_AT_ANNOTATION,
            EMPTIED_AT_ANNOTATION,
            PULL_SECRETS_ANNOTATION,
            INJECTED_BY_ANNOTATION,
            REPORT_FINGERPRINT_ANNOTATION,
        ]);
        assert_eq!(named, expected);
        for name in [OWN_NAMESPACE, MANAGER]
            .into_iter()
            .chain(SYSTEM_NAMESPACES)
            .chain([
                &*pull_secret("<AcrRegistry>"),
                &*minted_credential("<AcrRegistry>"),
            ])
        {
            assert!(page.contains(&format!("`{name}`")), "{name}");
        }
    }

    #[test]
    fn a_pull_secret_names_its_registry_and_nothing_else_does() {
        assert_eq!(registry_of(&pull_secret("mine")), Some("mine"));
        assert_eq!(registry_of("mine"), None);
        assert_eq!(pull_secret_of("mine"), "pullpass-mine");
        assert_eq!(pull_secret_of("shop/mine"), "pullpass-binding-mine");
        assert_eq!(
            registry_of(&pull_secret("binding-mine")),
            Some(&*namesake_of_binding("mine"))
        );
        for (name, own) in [
            ("webhook-certificate", true),
            ("serving-certificate", true),
            ("serving-authority", true),
            ("credential-mine", true),
            ("binding-credential-shop.mine", true),
            ("pullpass-mine", false),
            ("acr-sp", false),
        ] {
            assert_eq!(is_own_secret(name), own, "{name}");
        }
    }
}
