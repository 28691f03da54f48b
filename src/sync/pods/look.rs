//! A look at Pods, when they change and again and again: what is told about them, and to whom.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::runtime::watcher::Event;
use tokio::sync::mpsc::Sender;
use tokio::task::yield_now;

use super::kept::{Kept, KeptPods, Kind, PodKey, Standing};
use super::stuck::StuckPods;
use super::{PodsController, Sighting};
use crate::api::names::binding_of_key;
use crate::api::names::registry_of;
use crate::base::clock::monotonic as now;
use crate::base::occasional::Occasional;
use crate::policy::attached::AttachedRegistries;
use crate::policy::coverage::{CoverageState, findings_of};
use crate::policy::pod::{Pod, PodNames, is_pending};
use crate::sync::pair::Pair;
use crate::sync::rescue::Proposals;
use crate::sync::watches::Change;

/// How many kinds of Pods are looked at without a pause for others.
const CHUNK: usize = 250;
/// How much longer than a look at everything took the next one waits that a change leads to.
const REST: u32 = 10;
/// How often the log says that there is no room for all Pods.
const LOG_INTERVAL: Duration = Duration::from_mins(10);

/// Nobody takes sightings any more.
#[derive(Debug)]
pub(super) struct Gone;

/// What is known of Pods, and whom to tell.
pub(super) struct Look<'a> {
    controller: &'a PodsController,
    sightings: &'a Sender<Sighting>,
    proposals: &'a Proposals,
    kept: KeptPods,
    stuck: StuckPods,
    /// What Pods need for which there is no room. It stays until all Pods are listed again.
    left_out: HashSet<Pair>,
    /// When the list that is under way began.
    list_begun: Instant,
    /// All Pods are known.
    is_listed: bool,
    /// Namespaces that changed, and whether `AcrRegistries` did.
    namespaces: BTreeSet<String>,
    is_all_changed: bool,
    /// When a change may lead to a look at everything again.
    next: Instant,
    logged: Occasional,
}

impl<'a> Look<'a> {
    pub(super) fn new(
        controller: &'a PodsController,
        sightings: &'a Sender<Sighting>,
        proposals: &'a Proposals,
    ) -> Self {
        Self {
            controller,
            sightings,
            proposals,
            kept: KeptPods::default(),
            stuck: StuckPods::default(),
            left_out: HashSet::new(),
            list_begun: now(),
            is_listed: false,
            namespaces: BTreeSet::new(),
            is_all_changed: false,
            next: now(),
            logged: Occasional::new(LOG_INTERVAL),
        }
    }

    /// Takes what was done with a Pod.
    pub(super) async fn take(&mut self, event: Event<Pod>) -> Result<(), Gone> {
        match event {
            Event::Init => {
                self.list_begun = now();
                self.kept.begin_list();
                self.stuck.clear();
                self.left_out.clear();
            }
            Event::InitApply(pod) | Event::Apply(pod) => self.see(pod).await?,
            Event::Delete(pod) => {
                let key = PodKey::of(&pod);
                self.kept.remove(&key);
                self.stuck.remove(&key);
            }
            Event::InitDone => {
                self.kept.end_list();
                self.is_listed = true;
                // Nobody was told about those that were known before.
                self.look_at_kinds(None).await?;
                self.tell_counts();
                self.scan_done(self.list_begun).await?;
            }
        }
        Ok(())
    }

    /// Takes note of what is to be looked at again.
    pub(super) fn note(&mut self, change: Change) {
        match change {
            Change::Namespace(change) => {
                self.namespaces.insert(change.name);
            }
            Change::NamespaceGone(name) | Change::ServiceAccounts(name) => {
                self.namespaces.insert(name);
            }
            Change::Binding(key) => {
                let namespace = binding_of_key(&key).map(|(namespace, _)| namespace.to_owned());
                self.namespaces.extend(namespace);
            }
            Change::Registry(_) | Change::Bindings | Change::Everything => self.note_everything(),
            Change::Credential(_) | Change::Noted(_) => {}
        }
    }

    /// The same where nobody knows what changed.
    pub(super) fn note_everything(&mut self) {
        self.is_all_changed = true;
    }

    /// Looks at what changed, and tells the states of Pods. Until all are known nothing is told about them.
    pub(super) async fn tell(&mut self) -> Result<(), Gone> {
        if self.is_all_changed && now() >= self.next {
            self.is_all_changed = false;
            self.namespaces.clear();
            let begun = now();
            self.look_at_kinds(None).await?;
            self.next = now() + begun.elapsed() * REST;
        }
        for namespace in std::mem::take(&mut self.namespaces) {
            self.look_at_kinds(Some(&namespace)).await?;
        }
        if self.is_listed {
            self.tell_counts();
        }
        Ok(())
    }

    /// Looks at all Pods again: what is needed is needed still, and what helps a Pod may have come since.
    pub(super) async fn look_again(&mut self) -> Result<(), Gone> {
        if !self.is_listed {
            return Ok(());
        }
        let begun = now();
        self.look_at_kinds(None).await?;
        for pair in self.left_out.clone() {
            self.need(pair).await?;
        }
        for pod in self.stuck.iter() {
            self.look_at_pulls(pod);
        }
        self.tell_counts();
        self.scan_done(begun).await
    }

    async fn see(&mut self, pod: Pod) -> Result<(), Gone> {
        let Some(namespace) = pod.metadata.namespace.clone() else {
            return Ok(());
        };
        self.look_at_pulls(&pod);
        let controller = self.controller;
        let registries = controller.watches.view.registries_in(&namespace);
        let kept = self
            .kept
            .keep(&pod, |names| controller.standing(names, &registries));
        if kept != Kept::Known || is_pending(&pod) {
            let names = PodNames::of(&pod, &namespace);
            controller.look_at_names(&names, &registries);
            let pairs: Vec<_> = needed(&names, &registries).collect();
            if kept == Kept::LeftOut {
                self.leave_out(&pairs);
            }
            for pair in pairs {
                self.need(pair).await?;
            }
        }
        self.stuck.take(pod);
        Ok(())
    }

    fn leave_out(&mut self, pairs: &[Pair]) {
        self.left_out.extend(pairs.iter().cloned());
        if let Some(pods) = self.logged.take(1, now()) {
            tracing::warn!(
                pods,
                "there are more Pods than the leader keeps in memory: they get their pull secrets, and \
                 pullpass_uncovered_pods does not count them"
            );
        }
    }

    fn look_at_pulls(&self, pod: &Pod) {
        self.controller.failed_pulls.look_at(pod);
        if let Some(rescuer) = &self.controller.rescuer {
            rescuer.look_at(pod, self.proposals);
        }
    }

    /// Looks at kinds of Pods: all, or those of a namespace. Others have their turns in between.
    async fn look_at_kinds(&mut self, namespace: Option<&str>) -> Result<(), Gone> {
        let mut pairs = HashSet::new();
        for chunk in self.kept.kinds(namespace).chunks(CHUNK) {
            for kind in chunk {
                self.look_at_kind(kind, &mut pairs);
            }
            yield_now().await;
        }
        for pair in pairs {
            self.need(pair).await?;
        }
        Ok(())
    }

    fn look_at_kind(&mut self, kind: &Arc<Kind>, pairs: &mut HashSet<Pair>) {
        let controller = self.controller;
        let names = kind.names();
        let registries = controller.watches.view.registries_in(names.namespace);
        controller.look_at_names(&names, &registries);
        pairs.extend(needed(&names, &registries));
        self.kept
            .judge(kind, |names| controller.standing(names, &registries));
    }

    fn tell_counts(&mut self) {
        if let Some((pods, groups)) = self.kept.take_changes() {
            self.controller.metrics.set_uncovered(pods, groups);
        }
    }

    async fn scan_done(&self, begun: Instant) -> Result<(), Gone> {
        self.controller.watches.pods_scanned();
        self.send(Sighting::ScanDone { begun }).await
    }

    async fn need(&self, pair: Pair) -> Result<(), Gone> {
        self.send(Sighting::Needed(pair)).await
    }

    async fn send(&self, sighting: Sighting) -> Result<(), Gone> {
        self.sightings.send(sighting).await.map_err(|_| Gone)
    }
}

impl PodsController {
    /// Takes note of what Pods name.
    fn look_at_names(&self, names: &PodNames<'_>, registries: &AttachedRegistries) {
        self.failed_pulls.look_at_hosts(names);
        let labels = self.watches.view.labels(names.namespace);
        let seen = &self.watches.repositories;
        seen.see(names, registries, labels.as_ref(), &self.scope);
    }

    fn standing(&self, names: &PodNames<'_>, registries: &AttachedRegistries) -> Standing {
        let labels = self.watches.view.labels(names.namespace);
        let mountable = self
            .watches
            .view
            .mountable(names.namespace, names.service_account);
        let findings = findings_of(
            names,
            registries,
            labels.as_ref(),
            &self.scope,
            mountable.as_deref(),
        );
        let uncovered = findings.iter().filter_map(|finding| match finding.state {
            CoverageState::Uncovered(gap) => Some((finding.registry.map(str::to_owned), gap)),
            CoverageState::Covered | CoverageState::Skipped(_) => None,
        });
        uncovered.collect()
    }
}

/// The pairs whose pull secrets Pods name.
fn needed<'a>(
    names: &'a PodNames<'_>,
    registries: &'a AttachedRegistries,
) -> impl Iterator<Item = Pair> + use<'a> {
    let secrets = names.pull_secrets.iter();
    secrets
        .filter_map(|secret| registry_of(secret))
        .filter(|registry| registries.by_name(registry).is_some())
        .map(|registry| (names.namespace.to_owned(), registry.to_owned()))
}
