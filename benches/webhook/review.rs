//! The reviews that are sent: the CREATE of a `ReplicaSet`'s Pod, as kube-apiserver sends it.

use clap::ValueEnum;
use serde_json::{Map, Value, json};

/// The AcrRegistry that the server knows, and the secret that every answer must add for it.
pub(crate) const MANIFEST: &str = "\
apiVersion: pullpass.dev/v1alpha1
kind: AcrRegistry
metadata: {name: myregistry}
spec:
  loginServer: myregistry.azurecr.io
  identity: {managedIdentity: {}}
---
apiVersion: v1
kind: Namespace
metadata: {name: apps, labels: {kubernetes.io/metadata.name: apps}}
";
/// The pull secret of that registry.
pub(crate) const PULL_SECRET: &str = "pullpass-myregistry";

/// Of how many containers an annotation of 200 KB tells.
const APPLIED_CONTAINERS: usize = 30;

/// How large a review is, in rounded kilobytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Size {
    /// One container without environment variables
    #[value(name = "3k")]
    Small,
    /// 8 containers of 25 environment variables each
    #[value(name = "32k")]
    Medium,
    /// One container, and an annotation that holds JSON
    #[value(name = "32k-escaped")]
    MediumEscaped,
    /// 16 containers of 96 environment variables each
    #[value(name = "200k")]
    Large,
    /// One container, and an annotation that holds JSON: `kubectl apply` leaves one such
    #[value(name = "200k-escaped")]
    Escaped,
}

impl Size {
    /// The name that the command line and the report have.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Small => "3 KB",
            Self::Medium => "32 KB",
            Self::MediumEscaped => "32 KB, escaped",
            Self::Large => "200 KB",
            Self::Escaped => "200 KB, escaped",
        }
    }

    fn containers_and_variables(self) -> (usize, usize) {
        match self {
            Self::Small | Self::MediumEscaped | Self::Escaped => (1, 0),
            Self::Medium => (8, 25),
            Self::Large => (16, 96),
        }
    }
}

/// An `AdmissionReview` of that size.
pub(crate) fn review(size: Size) -> Vec<u8> {
    let containers = match size {
        Size::Small | Size::Medium | Size::Large => None,
        Size::MediumEscaped => Some(5),
        Size::Escaped => Some(APPLIED_CONTAINERS),
    };
    review_with(size, containers.map(applied))
}

/// One as long as that with escapes, which has none.
pub(crate) fn unescaped() -> Vec<u8> {
    let length = Value::from(applied(APPLIED_CONTAINERS)).to_string().len() - "\"\"".len();
    review_with(Size::Escaped, Some("a".repeat(length)))
}

/// What `kubectl apply` leaves on the Pod.
fn applied(containers: usize) -> String {
    spec(containers, 96).to_string()
}

fn review_with(size: Size, applied: Option<String>) -> Vec<u8> {
    let (containers, variables) = size.containers_and_variables();
    let pods = json!({"group": "", "version": "v1", "resource": "pods"});
    let pod = json!({"group": "", "version": "v1", "kind": "Pod"});
    json!({
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "0df28fbd-5f5f-11e8-bc74-36e6bb280816",
            "kind": pod, "resource": pods, "requestKind": pod, "requestResource": pods,
            "namespace": "apps",
            "operation": "CREATE",
            "userInfo": {
                "username": "system:serviceaccount:kube-system:replicaset-controller",
                "uid": "f2b8a4f6-0d3c-4f1e-9a53-7a5f3f3c2d11",
                "groups": ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"],
                "extra": {"authentication.kubernetes.io/credential-id": ["JTI=5b1bd4f0-3c8e-44f2-a1b8-61e9e3f7b0c5"]},
            },
            "object": {
                "kind": "Pod",
                "apiVersion": "v1",
                "metadata": metadata(containers, variables, applied),
                "spec": spec(containers, variables),
                "status": {"phase": "Pending", "qosClass": "Burstable"},
            },
            "oldObject": null,
            "dryRun": false,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        },
    })
    .to_string()
    .into_bytes()
}

fn metadata(containers: usize, variables: usize, applied: Option<String>) -> Value {
    let mut annotations = json!({"kubectl.kubernetes.io/restartedAt": "2026-11-22T17:59:58Z"});
    if let (Some(applied), Some(annotations)) = (applied, annotations.as_object_mut()) {
        annotations.insert(
            "kubectl.kubernetes.io/last-applied-configuration".to_owned(),
            applied.into(),
        );
    }
    json!({
        "generateName": "storefront-79bbf88499-",
        "namespace": "apps",
        "creationTimestamp": "2026-11-22T18:00:01Z",
        "labels": {"app.kubernetes.io/name": "storefront", "pod-template-hash": "79bbf88499"},
        "annotations": annotations,
        "ownerReferences": [{
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "storefront-79bbf88499",
            "uid": "7f0a2f6b-98b5-4a2c-8c0e-3b7f4fd1d0aa", "controller": true, "blockOwnerDeletion": true,
        }],
        "managedFields": [{
            "manager": "kube-controller-manager", "operation": "Update", "apiVersion": "v1",
            "time": "2026-11-22T18:00:01Z", "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:metadata": {
                    "f:annotations": {".": {}, "f:kubectl.kubernetes.io/restartedAt": {}},
                    "f:generateName": {},
                    "f:labels": {".": {}, "f:app.kubernetes.io/name": {}, "f:pod-template-hash": {}},
                    "f:ownerReferences": {".": {}, "k:{\"uid\":\"7f0a2f6b-98b5-4a2c-8c0e-3b7f4fd1d0aa\"}": {}},
                },
                "f:spec": {
                    "f:containers": managed_containers(containers, variables),
                    "f:dnsPolicy": {}, "f:enableServiceLinks": {}, "f:restartPolicy": {}, "f:schedulerName": {},
                    "f:securityContext": {}, "f:terminationGracePeriodSeconds": {},
                },
            },
        }],
    })
}

fn spec(containers: usize, variables: usize) -> Value {
    let containers: Vec<_> = (0..containers)
        .map(|number| container(number, variables))
        .collect();
    json!({
        "volumes": [{"name": "kube-api-access-x7k2m", "projected": {"defaultMode": 420, "sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [
                {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}},
            ]}},
        ]}}],
        "containers": containers,
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "serviceAccountName": "default",
        "serviceAccount": "default",
        "securityContext": {},
        "schedulerName": "default-scheduler",
        "tolerations": [
            {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
            {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
        ],
        "priority": 0,
        "enableServiceLinks": true,
        "preemptionPolicy": "PreemptLowerPriority",
    })
}

fn container(number: usize, variables: usize) -> Value {
    let env: Vec<_> = (0..variables)
        .map(|number| json!({"name": variable(number), "value": format!("service-{number}:8443")}))
        .collect();
    let mut container = json!({
        "name": container_name(number),
        "image": format!("myregistry.azurecr.io/storefront/service-{number}:v1.4.{number}"),
        "resources": {"limits": {"memory": "256Mi"}, "requests": {"cpu": "100m", "memory": "128Mi"}},
        "volumeMounts": [{
            "name": "kube-api-access-x7k2m", "readOnly": true,
            "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
        }],
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "imagePullPolicy": "IfNotPresent",
    });
    if let Some(fields) = container.as_object_mut().filter(|_| variables > 0) {
        fields.insert("env".to_owned(), env.into());
    }
    container
}

fn managed_containers(containers: usize, variables: usize) -> Value {
    let key = |name: String| format!("k:{{\"name\":\"{name}\"}}");
    let env: Map<_, _> = (0..variables)
        .map(|number| {
            (
                key(variable(number)),
                json!({".": {}, "f:name": {}, "f:value": {}}),
            )
        })
        .collect();
    let container = json!({
        ".": {}, "f:env": env, "f:image": {}, "f:imagePullPolicy": {}, "f:name": {},
        "f:resources": {
            ".": {}, "f:limits": {".": {}, "f:memory": {}}, "f:requests": {".": {}, "f:cpu": {}, "f:memory": {}},
        },
        "f:terminationMessagePath": {}, "f:terminationMessagePolicy": {},
    });
    (0..containers)
        .map(|number| (key(container_name(number)), container.clone()))
        .collect::<Map<_, _>>()
        .into()
}

fn container_name(number: usize) -> String {
    format!("service-{number}")
}

fn variable(number: usize) -> String {
    format!("SERVICE_{number}_ADDRESS")
}
