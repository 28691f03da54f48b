//! Reads which admission policies of pullpass the API server has.

mod shipped;
#[cfg(test)]
mod tests;

use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use serde_json::Value;

use self::shipped::{contains, is_same, left_out_by_name, selects_the_same};
use crate::api::acr_index::AcrIndex;
use crate::api::names::INDEX;
use crate::cli::CliError;
use crate::cli::flags::kubeconfig::{Role, refusal_without};
use crate::kubernetes::call::{CallError, call};
use crate::policy::rules::{Action, Policy};
use crate::policy::scope::Scope;
use crate::policy::server_policies::{About, Disagreement, ServerPolicies, disagreements};

/// Of this program.
const VERSION: &str = env!("CARGO_PKG_VERSION");
const GROUP: &str = "admissionregistration.k8s.io";
/// What decides of a policy. Of its other fields the namespaces are the user's, and the API server fills in defaults.
const TEXT: [&str; 8] = [
    "/spec/paramKind",
    FAILURE_POLICY,
    "/spec/reinvocationPolicy",
    "/spec/matchConstraints/resourceRules",
    "/spec/matchConditions",
    "/spec/variables",
    "/spec/mutations",
    "/spec/validations",
];

/// What happens to a Pod that a policy can't evaluate.
const FAILURE_POLICY: &str = "/spec/failurePolicy";
/// Which namespaces a policy is for: those that are left out by name are the user's, as far as pullpass excludes them, too.
const NAMESPACES: &str = "/spec/matchConstraints/namespaceSelector";
/// What else picks the objects that a policy sees. Nothing but `resourceRules` is shipped, and what somebody adds has Pods pass
/// the policy by.
const PICKED_BY: [&str; 3] = [
    "/spec/matchConstraints/objectSelector",
    "/spec/matchConstraints/excludeResourceRules",
    "/spec/matchConstraints/resourceRules",
];
/// The same of a binding: those for which a policy acts, and by which AcrIndex.
const BOUND_BY: [&str; 5] = [
    "/spec/matchResources/namespaceSelector",
    "/spec/matchResources/objectSelector",
    "/spec/matchResources/excludeResourceRules",
    "/spec/matchResources/resourceRules",
    "/spec/paramRef",
];

/// A component whose policies act in the API server.
struct Component {
    name: &'static str,
    /// Of its policies.
    kind: &'static str,
    /// As this version ships it.
    manifest: &'static str,
    /// The one by which the component is known, and the other one. Their bindings have the same names.
    policies: [Part; 2],
}

struct Part {
    name: &'static str,
    /// What its binding has the API server do; that of a mutating policy names no action.
    action: Option<&'static str>,
}

const ADMISSION_POLICY: Component = Component {
    name: "admission-policy",
    kind: "MutatingAdmissionPolicy",
    manifest: include_str!("../../../../manifests/components/admission-policy/policy.yaml"),
    policies: [
        Part {
            name: "pullpass",
            action: None,
        },
        Part {
            name: "pullpass-always",
            action: None,
        },
    ],
};
const ENFORCE: Component = Component {
    name: "enforce",
    kind: "ValidatingAdmissionPolicy",
    manifest: include_str!("../../../../manifests/components/enforce/policy.yaml"),
    policies: [
        Part {
            name: "pullpass-enforce",
            action: Some("Deny"),
        },
        Part {
            name: "pullpass-warn",
            action: Some("Warn"),
        },
    ],
};

/// What is known of a policy.
#[derive(Debug, Default)]
struct Found {
    /// Whether it acts; absent if that can't be read.
    in_force: Option<bool>,
    /// As the API server has it, where it has it and it can be read.
    policy: Option<Value>,
    /// Its binding, likewise.
    binding: Option<Value>,
}

/// Reads them with the rights of the user; what these do not reach is not known.
pub(in crate::cli) async fn read(client: &Client, webhook: Option<&Scope>) -> ServerPolicies {
    let injecting = ADMISSION_POLICY.find(client).await;
    let enforcing = ENFORCE.find(client).await;
    let mut policies = ServerPolicies {
        inject: injecting[0].in_force,
        enforce: enforcing[0].in_force,
        disagreements: Vec::new(),
    };
    let are_there = policies.are_there();
    let indexes: Api<AcrIndex> = Api::all(client.clone());
    let index = call(indexes.get_opt(INDEX)).await;
    let spec = index.as_ref().ok().and_then(|index| Some(&index.as_ref()?.spec));
    // A policy is of no use where no rule has its action.
    let says = |action| spec.is_some_and(|spec| spec.unattached == action || spec.forbidden == action);
    let mut told = match &index {
        Ok(_) => disagreements(are_there, spec, webhook),
        Err(error) if are_there => vec![format!("what policies decide by can't be read: {error}")],
        // An older pullpass has none, and the rights of the user may not reach it.
        Err(_) => Vec::new(),
    }
    .into_iter()
    .map(Disagreement::from)
    .collect::<Vec<_>>();
    let excluded = spec.map(|spec| &spec.excluded_namespaces[..]);
    told.extend(ADMISSION_POLICY.faults(&injecting, [true, true], excluded));
    told.extend(ENFORCE.faults(&enforcing, [says("deny"), says("warn")], excluded));
    policies.disagreements = told;
    policies
}

impl Component {
    async fn find(&self, client: &Client) -> [Found; 2] {
        let [first, second] = &self.policies;
        [
            first.find(client, self.kind).await,
            second.find(client, self.kind).await,
        ]
    }

    /// What is wrong with its policies: one of two that are needed does not act; Pods pass one by, since it sees fewer of them than
    /// the one that is shipped, leaves out more namespaces than pullpass excludes, or admits what it can't evaluate; or one has
    /// another text than this version ships. Of what can't be read nothing is said, nor of a component that is
    /// not installed.
    fn faults(
        &self,
        found: &[Found; 2],
        are_needed: [bool; 2],
        excluded: Option<&[String]>,
    ) -> Vec<Disagreement> {
        let Self { name, kind, .. } = self;
        let [first, second] = &self.policies;
        let mut faults = Vec::new();
        for (this, other, part, sibling, is_needed) in [
            (&found[0], &found[1], first, second, are_needed[0]),
            (&found[1], &found[0], second, first, are_needed[1]),
        ] {
            let about = About::Policy {
                kind,
                name: part.name,
            };
            if is_needed && this.in_force == Some(false) && other.in_force == Some(true) {
                let text = format!(
                    "{kind} {} is not in force, and {} is: apply the component {name} again",
                    part.name, sibling.name
                );
                faults.push(Disagreement { about, text });
            }
            if this.in_force != Some(true) {
                continue;
            }
            for (field, of) in self.added(part, this) {
                let text = format!(
                    "{field} of {of} {} is not as shipped, so that Pods may pass it by: apply the component {name} again",
                    part.name
                );
                faults.push(Disagreement { about, text });
            }
            let policy = this.policy.as_ref();
            if policy.is_some_and(|policy| self.is_lenient(part, policy)) {
                let text = format!(
                    "{kind} {} has another failurePolicy than Fail, so that Pods that it can't evaluate pass it by, such as those that \
                     cost too much: apply the component {name} again",
                    part.name
                );
                faults.push(Disagreement { about, text });
            }
            let names = policy.zip(excluded).map(|(policy, excluded)| {
                let mut names = left_out_by_name(policy.pointer(NAMESPACES));
                names.retain(|name| !excluded.iter().any(|excluded| excluded == name));
                names.into_iter().collect::<Vec<_>>().join(", ")
            });
            if let Some(names) = names.filter(|names| !names.is_empty()) {
                let text = format!(
                    "{kind} {} excludes namespaces by name that --exclude-namespaces does not, so that their Pods pass it by: \
                     {names}: exclude the same in both",
                    part.name
                );
                faults.push(Disagreement { about, text });
            }
            if policy.is_some_and(|policy| !self.is_shipped(part, policy)) {
                let text = format!(
                    "{kind} {} is not the one of version {VERSION}, which this program is of: apply the component {name} of \
                     the version that pullpass has",
                    part.name
                );
                let about = About::Version;
                faults.push(Disagreement { about, text });
            }
        }
        faults
    }

    /// Whether a policy has the text that this version ships. That it is lenient is told by itself.
    fn is_shipped(&self, part: &Part, policy: &Value) -> bool {
        self.shipped(self.kind, part).is_some_and(|shipped| {
            TEXT.iter().all(|path| {
                contains(policy.pointer(path), shipped.pointer(path))
                    || (*path == FAILURE_POLICY && self.is_lenient(part, policy))
            })
        })
    }

    /// Whether a policy admits Pods that it can't evaluate, and is shipped to refuse them.
    fn is_lenient(&self, part: &Part, policy: &Value) -> bool {
        let fails = |policy: &Value| policy.pointer(FAILURE_POLICY).and_then(Value::as_str) == Some("Fail");
        let shipped = self.shipped(self.kind, part);
        shipped.is_some_and(|shipped| fails(&shipped)) && !fails(policy)
    }

    /// The fields by which the policy or its binding may see fewer Pods than those that are shipped, each with the kind that has it.
    fn added(&self, part: &Part, found: &Found) -> Vec<(String, String)> {
        let of_binding = format!("{}Binding", self.kind);
        let mut added = Vec::new();
        for (kind, object, paths) in [
            (self.kind, &found.policy, &PICKED_BY[..]),
            (&of_binding, &found.binding, &BOUND_BY),
        ] {
            let (Some(object), Some(shipped)) = (object, self.shipped(kind, part)) else {
                continue;
            };
            let differs = |path: &&str| {
                let (present, shipped) = (object.pointer(path), shipped.pointer(path));
                // Other rules are those of another version.
                let is_text = TEXT.contains(path) && !contains(present, shipped);
                !is_text && !is_same(present, shipped)
            };
            let fields = paths.iter().copied().filter(differs);
            let selects_others = kind == self.kind
                && !selects_the_same(object.pointer(NAMESPACES), shipped.pointer(NAMESPACES));
            let named = |path: &str| (path.trim_start_matches('/').replace('/', "."), kind.to_owned());
            added.extend(fields.chain(selects_others.then_some(NAMESPACES)).map(named));
        }
        added
    }

    /// An object of the manifest.
    fn shipped(&self, kind: &str, part: &Part) -> Option<Value> {
        let documents: Vec<Value> = serde_saphyr::from_multiple(self.manifest).unwrap_or_default();
        documents.into_iter().find(|document| {
            document.get("kind").and_then(Value::as_str) == Some(kind)
                && document.pointer("/metadata/name").and_then(Value::as_str) == Some(part.name)
        })
    }
}

impl Part {
    /// Whether the policy acts: it is there, and so is a binding of its name that is for it and has the API server do
    /// what it is for. Where the binding can't be read that is not known; if only the policy can't, the binding counts.
    async fn find(&self, client: &Client, kind: &str) -> Found {
        let Some(binding) = read_object(client, &format!("{kind}Binding"), self.name).await else {
            return Found::default();
        };
        let Some(binding) = binding.filter(|binding| self.is_bound(binding)) else {
            return Found {
                in_force: Some(false),
                ..Found::default()
            };
        };
        let policy = read_object(client, kind, self.name).await;
        Found {
            in_force: Some(policy.as_ref().is_none_or(Option::is_some)),
            policy: policy.flatten(),
            binding: Some(binding),
        }
    }

    fn is_bound(&self, binding: &Value) -> bool {
        let actions = binding
            .pointer("/spec/validationActions")
            .and_then(Value::as_array);
        let acts = match (actions, self.action) {
            (Some(actions), Some(wanted)) => actions.iter().any(|action| action == wanted),
            (None, _) | (_, None) => true,
        };
        binding.pointer("/spec/policyName").and_then(Value::as_str) == Some(self.name) && acts
    }
}

/// What pullpass is told to do about images that no attached registry is there for, by the AcrIndex; nothing if there
/// is none. A cluster that does not say so must not be taken for one that allows all.
pub(in crate::cli) async fn rules(client: &Client) -> Result<Option<Policy>, CliError> {
    let indexes: Api<AcrIndex> = Api::all(client.clone());
    let index = match call(indexes.get_opt(INDEX)).await {
        Ok(index) => index,
        // Before the kind was there, nor was the object.
        Err(error) if is_unserved(&error) => None,
        Err(error) => return Err(refusal_without(Role::View, "the AcrIndex can't be read", &error)),
    };
    let named = |name: &str| Action::ALL.into_iter().find(|action| action.as_str() == name);
    let default = Policy::default();
    Ok(index.map(|index| Policy {
        unattached: named(&index.spec.unattached).unwrap_or(default.unattached),
        forbidden: named(&index.spec.forbidden).unwrap_or(default.forbidden),
    }))
}

/// An object, if it is there; nothing if that can't be read.
async fn read_object(client: &Client, kind: &str, name: &str) -> Option<Option<Value>> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, "v1", kind));
    let objects: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    match call(objects.get_opt(name)).await {
        Ok(object) => Some(object.map(|object| object.data)),
        // The API server may not serve the kind.
        Err(error) => is_unserved(&error).then_some(None),
    }
}

fn is_unserved(error: &CallError) -> bool {
    match error {
        CallError::Kube(error) => matches!(&**error, kube::Error::Api(status) if status.code == 404),
        CallError::TimedOut(_) => false,
    }
}
