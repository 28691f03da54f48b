//! Answers one review: reads it, decides, records, encodes. Everything between a body and an answer, without the
//! transport.

pub mod demand;
mod drops;
mod echo;
pub mod json;
mod lookups;
pub mod notices;
pub mod patch;
pub mod review;
mod turns;
mod written;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::{OptionFuture, join_all};
use jiff::Timestamp;
use kube::Client;
use thiserror::Error;
use tokio::sync::SemaphorePermit;
use tokio::time::timeout_at;

use self::echo::with_echo;
use self::lookups::{FoundNamespace, Lookups, Wait};
use self::patch::PullSecretsPatch;
use self::written::Written;
use crate::admission::demand::DemandSender;
use crate::admission::notices::NoticeSender;
use crate::admission::review::{AuditAnnotations, ReviewError, ReviewResponse};
use crate::audit::{AuditLog, Record};
use crate::base::clock::monotonic;
use crate::metrics::Metrics;
use crate::policy::attached::{AttachedRegistries, AttachedRegistry};
use crate::policy::decision::{
    Decision, Denial, Fresher, Matter, Notice, Settings, Violation, WaitOutcome, Waited, decide,
};
use crate::policy::request::ReviewRequest;
use crate::policy::scope::{Picked, labels_by_name};
use crate::view::View;

/// How many violations the annotation lists at most: it is part of the answer, and of the API server's own audit log.
const MAX_ANNOTATED: usize = 20;

/// What every answer depends on.
#[derive(Debug)]
pub struct Admission {
    view: Arc<View>,
    settings: Settings,
    audit: Arc<AuditLog>,
    metrics: Arc<Metrics>,
    cluster: Option<ClusterSenders>,
    lookups: Option<Lookups>,
}

/// A review that is not answered yet.
#[derive(Debug)]
pub struct Review<'a> {
    request: ReviewRequest<'a>,
    /// How long its body is.
    bytes: usize,
    /// The registries that the API server said are attached.
    registries: Option<Arc<AttachedRegistries>>,
    /// The bindings that it said the namespace has.
    bindings: Option<Arc<[Arc<AttachedRegistry>]>>,
    /// What the API server reported about the namespace.
    namespace: Option<FoundNamespace>,
    /// What the API server was asked for.
    asked: Fresher,
    /// What of that it did not say in time.
    failed: Fresher,
    /// How the wait for the pull secrets of its Pod ended.
    pull_secret: Option<WaitOutcome>,
}

/// What is done about a review.
#[derive(Debug)]
#[must_use]
pub enum ReviewStep {
    /// It is answered: an `AdmissionReview` in JSON.
    Answered(Vec<u8>),
    /// The caches may be behind the API server in this, which could change the answer.
    Behind(Fresher),
    /// Pull secrets of its Pod are demanded, and not written yet.
    Unwritten(Vec<Written>),
}

/// What a review has after its wait. The memory that it was read into stays reserved all the time.
#[derive(Debug)]
pub enum Place<'a, T> {
    /// Its turn to be judged: there was no room to wait.
    Turn(T),
    /// The room that it waited in, to be kept until its next turn.
    Room(SemaphorePermit<'a>),
}

/// What acts in a cluster on the decisions.
#[derive(Debug, Clone)]
pub struct ClusterSenders {
    /// Takes which namespace needs which pull secrets.
    pub demand: DemandSender,
    /// Takes what the owners of Pods have to know.
    pub notices: NoticeSender,
}

/// Why a review could not be answered.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AdmissionError {
    /// The body is not a review.
    #[error(transparent)]
    Review(#[from] ReviewError),
    /// The answer could not be written as JSON.
    #[error("the answer could not be encoded: {0}")]
    Encode(#[from] serde_json::Error),
}

impl Admission {
    /// Admission with these settings, on what the view knows.
    pub fn new(view: Arc<View>, settings: Settings, audit: Arc<AuditLog>, metrics: Arc<Metrics>) -> Self {
        Self {
            view,
            settings,
            audit,
            metrics,
            cluster: None,
            lookups: None,
        }
    }

    /// The same, in a cluster: the controllers learn of each decision and act on it.
    #[must_use]
    pub fn in_cluster(self, cluster: ClusterSenders) -> Self {
        Self {
            cluster: Some(cluster),
            ..self
        }
    }

    /// The same, where the API server is asked for what the caches may not have yet: for bindings where it has that resource.
    #[must_use]
    pub fn asking(self, client: Client, has_bindings: bool) -> Self {
        Self {
            lookups: Some(Lookups::new(client, has_bindings)),
            ..self
        }
    }

    /// Where decisions are counted.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// Reads the review in `body`, which was sent since a selector picked its namespace.
    pub fn read<'a>(&self, body: &'a [u8], picked: Picked) -> Result<Review<'a>, AdmissionError> {
        let decoded = ReviewRequest::decode(body)?;
        let account = decoded.pod.service_account.as_deref();
        let request = ReviewRequest {
            // Asked first: where it is known, so is what it enforces.
            account_is_uncached: !self.view.knows_account(&decoded.namespace, account),
            // Without a cluster the manifests are all that there is to know of a namespace.
            picked: self.cluster.as_ref().map(|_| picked),
            mountable: self.view.mountable(&decoded.namespace, account),
            ..decoded
        };
        Ok(Review {
            request,
            bytes: body.len(),
            registries: None,
            bindings: None,
            namespace: None,
            asked: Fresher::default(),
            failed: Fresher::default(),
            pull_secret: None,
        })
    }

    /// Answers a review, unless something is to be waited for first; `peer` is who sent it, and its first byte came when it
    /// `arrived`.
    pub fn answer(
        &self,
        review: &Review<'_>,
        peer: &str,
        arrived: Instant,
    ) -> Result<ReviewStep, AdmissionError> {
        let request = &review.request;
        let (registries, bindings) = (review.registries.as_ref(), review.bindings.as_deref());
        let registries = self
            .view
            .registries_in_with(&request.namespace, registries, bindings);
        let labels = match &review.namespace {
            Some(found) => found.0.clone(),
            None => self.view.labels(&request.namespace),
        };
        // Without a cluster the manifests are all that there is to know: no selector has picked a namespace that is not there.
        let has_no_cluster = self.cluster.is_none() && self.lookups.is_none();
        let labels = labels.or_else(|| has_no_cluster.then(|| labels_by_name(&request.namespace)));
        let decision = decide(request, &registries, labels.as_ref(), &self.settings);
        let wanted = decision.fresher.without(review.asked);
        if self.lookups.is_some() && wanted.is_wanted() {
            return Ok(ReviewStep::Behind(wanted));
        }
        let cluster = self.cluster.as_ref().filter(|_| !request.dry_run);
        if let Some(cluster) = cluster {
            // After a wait they may be others.
            let unwritten = cluster.demand(request, &decision);
            let is_there = review.namespace.as_ref().is_none_or(|found| found.0.is_some());
            let may_wait = self.lookups.is_some() && review.pull_secret.is_none() && is_there;
            if may_wait && !unwritten.is_empty() {
                return Ok(ReviewStep::Unwritten(unwritten));
            }
        }
        let answer = encode(request, &decision)?;
        if let Some(cluster) = cluster {
            let scope = &self.settings.scope;
            let is_known = labels
                .as_ref()
                .is_some_and(|labels| scope.injects(&request.namespace, Some(labels)));
            cluster.tell_owner(request, &decision, is_known);
        }
        let results = Waited::of(review.asked, review.failed, decision.fresher, review.pull_secret);
        let took = monotonic().saturating_duration_since(arrived);
        self.record(review, &decision, results, peer, took);
        Ok(ReviewStep::Answered(answer))
    }

    /// Asks the API server for what a review needs in a newer version, within its part of the time that the API server
    /// waits for the answer. The review does not ask for the same again, even if there was no answer. It gives up its
    /// turn while it waits.
    pub async fn catch_up<T>(
        &self,
        review: &mut Review<'_>,
        wanted: Fresher,
        arrived: Instant,
        timeout: Option<Duration>,
        turn: T,
    ) -> Place<'_, T> {
        review.asked = review.asked.and(wanted);
        review.failed = review.failed.and(wanted);
        let Some(lookups) = &self.lookups else {
            return Place::Turn(turn);
        };
        let Some(room) = lookups.enter(review.bytes) else {
            return Place::Turn(turn);
        };
        drop(turn);
        let wait = Wait::new(arrived, timeout);
        let here = &review.request.namespace;
        let account = review.request.pod.service_account();
        let (registries, bindings, namespace, account) = tokio::join!(
            OptionFuture::from(wanted.registries.then(|| lookups.registries(wait, &self.view))),
            OptionFuture::from(
                wanted
                    .registries
                    .then(|| lookups.bindings(wait, here, &self.view))
            ),
            OptionFuture::from(wanted.labels.then(|| lookups.labels(wait, here))),
            OptionFuture::from(
                wanted
                    .account
                    .then(|| lookups.account(wait, here, account, &self.view))
            ),
        );
        if wanted.registries {
            (review.registries, review.bindings) = (registries.flatten(), bindings.flatten());
            review.failed.registries = review.registries.is_none() || review.bindings.is_none();
        }
        if let Some(Some(found)) = namespace {
            review.failed.labels = false;
            review.request.labels_are_read = true;
            review.namespace = Some(found);
        }
        if let Some(Some(found)) = account {
            review.failed.account = false;
            review.request.mountable = found.0;
        }
        Place::Room(room)
    }

    /// Waits until the pull secrets of a review's Pod are written, within the same part of the time. The Pod is admitted then
    /// whether or not they are: its kubelet tries again. It gives up its turn while it waits.
    pub async fn wait_for_pull_secrets<T>(
        &self,
        review: &mut Review<'_>,
        unwritten: Vec<Written>,
        arrived: Instant,
        timeout: Option<Duration>,
        turn: T,
    ) -> Place<'_, T> {
        review.pull_secret = Some(WaitOutcome::Failed);
        let Some(room) = self
            .lookups
            .as_ref()
            .and_then(|lookups| lookups.enter_for_pull_secrets(review.bytes))
        else {
            return Place::Turn(turn);
        };
        drop(turn);
        // One that is not going to be written is no reason not to wait for the others.
        let all = timeout_at(Wait::new(arrived, timeout).deadline, join_all(unwritten)).await;
        if all.is_ok_and(|all| all.iter().all(Result::is_ok)) {
            review.pull_secret = Some(WaitOutcome::Written);
        }
        Place::Room(room)
    }

    fn record(
        &self,
        review: &Review<'_>,
        decision: &Decision<'_>,
        waited: Option<Waited>,
        peer: &str,
        took: Duration,
    ) {
        let request = &review.request;
        tracing::debug!(
            uid = %request.uid,
            namespace = %request.namespace,
            decision = decision.outcome.as_str(),
            injected = ?decision.secrets,
            ?took,
            "answered"
        );
        self.audit.write(&Record {
            time: Timestamp::now(),
            request,
            decision,
            waited,
            mode: self.settings.scope.mode(),
            peer,
            duration_micros: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        });
        self.metrics.admission(request.operation, decision.outcome, took);
        for violation in &decision.violations {
            self.metrics.violation(violation.rule, violation.action);
        }
        if let Some(waited) = waited {
            self.metrics.waited(waited);
        }
    }
}

impl ClusterSenders {
    /// Has the pull secrets of a Pod written; returns those that are not written yet.
    fn demand(&self, request: &ReviewRequest<'_>, decision: &Decision<'_>) -> Vec<Written> {
        let demanded = decision.demanded.iter().copied();
        let (with_every_key, others): (Vec<_>, Vec<_>) =
            demanded.partition(|registry| decision.needing_every_key.binary_search(registry).is_ok());
        let mut unwritten = self.demand.send_every_key(&request.namespace, &with_every_key);
        unwritten.extend(self.demand.send(&request.namespace, &others));
        unwritten
    }

    fn tell_owner(&self, request: &ReviewRequest<'_>, decision: &Decision<'_>, is_known: bool) {
        // A namespace that the cache does not have, or has as not injected, may be of a forged review's making. A controller
        // tries again, and finds its namespace known.
        if let Some(owner) = request.pod.owner.as_ref().filter(|_| is_known) {
            for Denial { rule, event, .. } in &decision.denials {
                let matter = Matter::Denied(*rule);
                self.notices.send(&request.namespace, owner, matter, event);
            }
            for Notice { matter, message } in &decision.notices {
                self.notices.send(&request.namespace, owner, *matter, message);
            }
        }
    }
}

/// The answer that a decision leads to, as an `AdmissionReview` in JSON.
pub fn encode(request: &ReviewRequest<'_>, decision: &Decision<'_>) -> Result<Vec<u8>, serde_json::Error> {
    let patch = if decision.secrets.is_empty() {
        None
    } else {
        Some(serde_json::to_vec(&PullSecretsPatch {
            secrets: &decision.secrets,
            has_list: request.pod.pull_secrets.is_some(),
        })?)
    };
    let injected = match decision.secrets.as_slice() {
        [only] => Cow::Borrowed(*only),
        several => Cow::Owned(several.join(",")),
    };
    let violations = listed(&decision.violations);
    let refusal = decision.refusal();
    let warnings = with_echo(request, &decision.warnings);
    ReviewResponse {
        uid: &request.uid,
        allowed: refusal.is_none(),
        denial: refusal.as_deref(),
        patch: patch.as_deref(),
        warnings: &warnings,
        audit_annotations: AuditAnnotations {
            decision: decision.outcome.as_str(),
            injected: &injected,
            violations: &violations,
        },
    }
    .encode()
}

/// Violations as the audit annotation lists them: `rule:host:action`, the first of many.
fn listed(violations: &[Violation<'_>]) -> String {
    let mut listed = String::new();
    for violation in violations.iter().take(MAX_ANNOTATED) {
        let (rule, action) = (violation.rule.as_str(), violation.action.as_str());
        let comma = if listed.is_empty() { "" } else { "," };
        listed.extend([comma, rule, ":", &violation.host, ":", action]);
    }
    let left_out = violations.len().saturating_sub(MAX_ANNOTATED);
    if left_out > 0 {
        listed.extend([",and ", &left_out.to_string(), " more"]);
    }
    listed
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use serde_json::{Value, json};

    use super::demand::Demand;
    use super::notices::OwnerNotice;
    use super::*;
    use crate::audit::Destination;
    use crate::policy::rules::{Action, Policy, Rule};
    use crate::policy::scope::Labels;
    use crate::policy::scope::{Mode, Scope};

    const UID: &str = "d9607e19-f88f-4be7-a2a1-5a5b8a2f2b1d";

    fn review(namespace: &str, container: &str, image: &str) -> Value {
        let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": UID, "controller": true});
        json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {
            "uid": "u", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "CREATE",
            "namespace": namespace, "userInfo": {"username": "jane"}, "dryRun": false,
            "object": {
                "metadata": {"generateName": "web-", "ownerReferences": [owner]},
                "spec": {"containers": [{"name": container, "image": image}]},
            },
        }})
    }

    /// An AcrRegistry for every namespace, or for those that a selector has.
    fn attached(selector: &Value) -> AttachedRegistry {
        let name = if selector.get("matchLabels").is_some() {
            "theirs"
        } else {
            "mine"
        };
        let object = json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": name},
            "spec": {
                "loginServer": format!("{name}registry.azurecr.io"),
                "identity": {"managedIdentity": {}},
                "namespaces": selector,
            },
        });
        AttachedRegistry::parse(&serde_json::from_value(object).unwrap()).unwrap()
    }

    /// The answer of an admission that asks nobody.
    fn answer(admission: &Admission, review: &Value, picked: Picked) -> Value {
        let body = review.to_string();
        let review = admission.read(body.as_bytes(), picked).unwrap();
        match admission.answer(&review, "127.0.0.1", Instant::now()).unwrap() {
            ReviewStep::Answered(answer) => serde_json::from_slice(&answer).unwrap(),
            step @ (ReviewStep::Behind(_) | ReviewStep::Unwritten(_)) => panic!("{step:?}"),
        }
    }

    /// What is told and counted of reviews. The namespace apps is known, and may use one of two registries.
    struct Reports {
        demand: Option<Demand>,
        told: Option<OwnerNotice>,
        metrics: String,
    }

    fn answered(reviews: &[Value], policy: Policy) -> Reports {
        let directory = tempfile::tempdir().unwrap();
        let audit = AuditLog::open(&Destination::File(directory.path().join("audit"))).unwrap();
        let view = Arc::new(View::default());
        view.set_namespace("apps", &Labels::new());
        let declined = [("pullpass.dev/inject".to_owned(), "disabled".to_owned())];
        view.set_namespace("declined", &declined.into());
        view.set_registries(
            [
                attached(&json!({})),
                attached(&json!({"matchLabels": {"team": "a"}})),
            ]
            .into_iter()
            .collect(),
        );
        let settings = Settings {
            scope: Scope::new(Mode::ClusterWide, "pullpass-system", []),
            policy,
        };
        let metrics = Arc::new(Metrics::new(|| 0));
        let (demand, mut demands) = demand::channel(Arc::clone(&metrics));
        let (notices, mut told) = notices::channel(Arc::clone(&metrics));
        let admission = Admission::new(view, settings, Arc::new(audit), Arc::clone(&metrics))
            .in_cluster(ClusterSenders { demand, notices });
        for review in reviews {
            let answer = answer(&admission, review, Picked::ByMode);
            assert_eq!(answer["response"]["uid"], "u", "{answer}");
        }
        drop(admission);
        Reports {
            demand: demands.recv().now_or_never().flatten(),
            told: told.recv().now_or_never().flatten(),
            metrics: metrics.encode().unwrap(),
        }
    }

    const DENY: Policy = Policy {
        unattached: Action::Deny,
        forbidden: Action::Deny,
    };

    /// What the writer of Events is told about a review.
    fn told(review: &Value) -> Option<OwnerNotice> {
        answered(std::slice::from_ref(review), DENY).told
    }

    #[test]
    fn an_event_holds_nothing_of_the_sender_but_a_host() {
        let review = review("apps", "call-555-0100", "other.azurecr.io/call/555-0100:now");
        let denied = told(&review).unwrap();
        assert_eq!(
            denied.message,
            "A Pod is refused: no AcrRegistry has other.azurecr.io (rule: unattached). An administrator of the cluster can \
             attach it: pullpass attach other.azurecr.io"
        );
        assert_eq!(denied.owner.uid.as_deref(), Some(UID));
    }

    #[test]
    fn a_dry_run_demands_nothing_and_tells_nobody() {
        let reviews = ["mineregistry.azurecr.io/app", "other.azurecr.io/app"]
            .map(|image| review("apps", "main", image));
        let stored = answered(&reviews, DENY);
        assert_eq!(
            stored.demand.map(|demand| demand.registry).as_deref(),
            Some("mine")
        );
        assert!(stored.told.is_some());
        let dry = answered(
            &reviews.map(|mut review| {
                review["request"]["dryRun"] = json!(true);
                review
            }),
            DENY,
        );
        assert_eq!(dry.demand.map(|demand| demand.registry), None);
        assert_eq!(dry.told, None);
    }

    #[test]
    fn every_violation_is_counted_by_rule_and_action() {
        let reviews = [
            "mineregistry.azurecr.io/app",
            "other.azurecr.io/app",
            "another.azurecr.io/app",
            "theirsregistry.azurecr.io/app",
        ]
        .map(|image| review("apps", "main", image));
        for (unattached, forbidden) in [(Action::Warn, Action::Deny), (Action::Deny, Action::Warn)] {
            let metrics = answered(
                &reviews,
                Policy {
                    unattached,
                    forbidden,
                },
            )
            .metrics;
            let counted: Vec<_> = metrics
                .lines()
                .filter_map(|line| line.strip_prefix("pullpass_policy_violations_total"))
                .collect();
            let line = |rule: &str, action: Action, count: u32| {
                format!("{{rule=\"{rule}\",action=\"{}\"}} {count}", action.as_str())
            };
            let expected = [line("unattached", unattached, 2), line("forbidden", forbidden, 1)];
            assert_eq!(counted.len(), 2, "{metrics}");
            assert!(
                expected.iter().all(|line| counted.contains(&&**line)),
                "{metrics}"
            );
        }
    }

    /// The decision on a Pod of a namespace that the cache has as opted out.
    fn decision_on_old_labels(in_cluster: bool, picked: Picked, image: &str) -> Value {
        let audit = AuditLog::open(&Destination::File("/dev/null".into())).unwrap();
        let view = Arc::new(View::default());
        let labels = [("pullpass.dev/inject".to_owned(), "disabled".to_owned())];
        view.set_namespace("apps", &labels.into());
        view.set_registries(std::iter::once(attached(&json!({}))).collect());
        let metrics = Arc::new(Metrics::new(|| 0));
        let (demand, _demands) = demand::channel(Arc::clone(&metrics));
        let (notices, _notices) = notices::channel(Arc::clone(&metrics));
        let admission = Admission::new(view, Settings::default(), Arc::new(audit), metrics);
        let admission = if in_cluster {
            admission.in_cluster(ClusterSenders { demand, notices })
        } else {
            admission
        };
        let answer = answer(&admission, &review("apps", "main", image), picked);
        answer["response"]["auditAnnotations"]["decision"].clone()
    }

    #[test]
    fn a_selector_that_picked_a_namespace_is_newer_than_the_cache() {
        let mine = "mineregistry.azurecr.io/app";
        for (in_cluster, picked, image, expected) in [
            (true, Picked::ByMode, mine, "injected"),
            (true, Picked::ByMode, "nginx", "not-applicable"),
            (true, Picked::Always, "nginx", "injected"),
            // The manifests are all that there is to know.
            (false, Picked::ByMode, mine, "skipped"),
            (false, Picked::Always, "nginx", "skipped"),
        ] {
            let decision = decision_on_old_labels(in_cluster, picked, image);
            assert_eq!(decision, expected, "{in_cluster} {picked:?} {image}");
        }
    }

    #[test]
    fn a_namespace_that_no_manifest_has_has_its_name_alone() {
        let (team, name) = (
            json!({"team": "a"}),
            json!({"kubernetes.io/metadata.name": "apps"}),
        );
        for (mode, image, labels, expected) in [
            (
                Mode::ClusterWide,
                "mineregistry.azurecr.io/app",
                &team,
                "injected",
            ),
            (
                Mode::ClusterWide,
                "theirsregistry.azurecr.io/app",
                &team,
                "uncovered",
            ),
            (
                Mode::ClusterWide,
                "theirsregistry.azurecr.io/app",
                &name,
                "injected",
            ),
            (Mode::OptIn, "mineregistry.azurecr.io/app", &team, "skipped"),
        ] {
            let view = Arc::new(View::default());
            let selector = json!({"matchLabels": labels});
            view.set_registries([attached(&json!({})), attached(&selector)].into_iter().collect());
            let audit = AuditLog::open(&Destination::File("/dev/null".into())).unwrap();
            let settings = Settings {
                scope: Scope::new(mode, "pullpass-system", []),
                ..Settings::default()
            };
            let admission = Admission::new(view, settings, Arc::new(audit), Arc::new(Metrics::new(|| 0)));
            let answer = answer(&admission, &review("apps", "main", image), Picked::ByMode);
            let decision = &answer["response"]["auditAnnotations"]["decision"];
            assert_eq!(decision, expected, "{mode:?} {image} {labels}");
        }
    }

    #[test]
    fn labels_that_a_selector_contradicts_forbid_nothing() {
        // The registry is for another team than the old labels say.
        let theirs = "theirsregistry.azurecr.io/app";
        for (label, picked, expected) in [
            ("inject", Picked::ByMode, "injected"),
            ("inject", Picked::Always, "injected"),
            ("team", Picked::ByMode, "uncovered"),
            ("team", Picked::Always, "injected"),
        ] {
            let view = Arc::new(View::default());
            let old = [(format!("pullpass.dev/{label}"), "disabled".to_owned())];
            view.set_namespace("apps", &old.into());
            let selector = json!({"matchLabels": {"team": "a"}});
            view.set_registries(std::iter::once(attached(&selector)).collect());
            let metrics = Arc::new(Metrics::new(|| 0));
            let (demand, _demands) = demand::channel(Arc::clone(&metrics));
            let (notices, _notices) = notices::channel(Arc::clone(&metrics));
            let audit = AuditLog::open(&Destination::File("/dev/null".into())).unwrap();
            let admission = Admission::new(view, Settings::default(), Arc::new(audit), metrics)
                .in_cluster(ClusterSenders { demand, notices });
            let answer = answer(&admission, &review("apps", "main", theirs), picked);
            let decision = &answer["response"]["auditAnnotations"]["decision"];
            assert_eq!(decision, expected, "{label} {picked:?}");
        }
    }

    #[test]
    fn a_namespace_that_is_not_known_gets_no_event() {
        assert_eq!(told(&review("elsewhere", "main", "other.azurecr.io/app")), None);
    }

    #[test]
    fn a_namespace_that_opted_out_gets_no_event() {
        assert_eq!(told(&review("declined", "main", "other.azurecr.io/app")), None);
    }

    #[test]
    fn the_audit_annotation_lists_the_first_of_many_violations() {
        let of = |number| Violation {
            rule: Rule::Unattached,
            host: format!("r{number}.azurecr.io").into(),
            registry: None,
            action: Action::Warn,
        };
        let list = |count: usize| listed(&(0..count).map(of).collect::<Vec<_>>());
        assert_eq!(list(0), "");
        assert_eq!(list(1), "unattached:r0.azurecr.io:warn");
        assert_eq!(list(MAX_ANNOTATED).split(',').count(), MAX_ANNOTATED);
        let many = list(MAX_ANNOTATED + 2);
        assert!(many.ends_with(",and 2 more"), "{many}");
        assert_eq!(many.split(',').count(), MAX_ANNOTATED + 1);
    }
}
