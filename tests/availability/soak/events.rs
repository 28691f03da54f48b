//! What happens to the replicas and to the cluster while Pods are created.

use std::error::Error;
use std::time::Instant;

use pullpass_test_support::{Signal, wait_for};
use serde_json::{Value, json};

use super::fleet::Fleet;
use super::pods::{Pods, is_by_a_rule};
use super::{Pace, Setting, patch, wait_until_all_know};
use crate::ask::injects;
use crate::world::{NAMESPACE, OWN_NAMESPACE, Replica, SOON, Test, World, is_injected, sum_of, text};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Roll,
    KillReplica,
    KillLeader,
    FreezeLeader,
    CutOff,
    RotateCertificate,
    RestartApiServer,
    ChangeRegistries,
    ChangeLabels,
    Outage,
}

impl Event {
    /// All of them. An outage leaves no replica, and so comes last.
    pub const ALL: [Self; 10] = [
        Self::ChangeLabels,
        Self::Roll,
        Self::KillReplica,
        Self::ChangeRegistries,
        Self::KillLeader,
        Self::RotateCertificate,
        Self::FreezeLeader,
        Self::RestartApiServer,
        Self::CutOff,
        Self::Outage,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Roll => "a rolling update",
            Self::KillReplica => "a replica is killed",
            Self::KillLeader => "the leader is killed",
            Self::FreezeLeader => "the leader is frozen",
            Self::CutOff => "a replica is cut off",
            Self::RotateCertificate => "the certificate rotates",
            Self::RestartApiServer => "the API server restarts",
            Self::ChangeRegistries => "AcrRegistries change",
            Self::ChangeLabels => "labels of namespaces change",
            Self::Outage => "there is no replica",
        }
    }
}

/// Who makes things happen.
pub struct Conductor<'a, 'b> {
    pub world: &'a World,
    pub fleet: &'b mut Fleet<'a>,
    pub pods: &'b Pods,
    pub pace: Pace,
    pub setting: Setting,
}

impl Conductor<'_, '_> {
    /// Makes it happen, and everything as it was.
    pub fn perform(&mut self, event: Event) -> Test {
        match event {
            Event::Roll => self.roll(),
            Event::KillReplica => {
                let leader = self.fleet.wait_for_leader()?;
                self.kill(usize::from(leader == 0))
            }
            Event::KillLeader => {
                let leader = self.fleet.wait_for_leader()?;
                self.kill(leader)?;
                self.fleet.wait_for_leader().map(drop)
            }
            Event::FreezeLeader => self.freeze_leader(),
            Event::CutOff => self.cut_off(),
            Event::RotateCertificate => self.rotate_certificate(),
            Event::RestartApiServer => {
                self.world.cluster.restart_api_server()?;
                let begun = Instant::now();
                self.wait()?;
                self.fleet.wait_for_leader()?;
                // An API server that starts does not know the index of its policies yet: until then, only the webhook
                // injects.
                wait_until_all_know(self.world, self.setting)?;
                // Which docs/availability.md has.
                eprintln!("  after {:?} Pods are injected as the row says", begun.elapsed());
                Ok(())
            }
            Event::ChangeRegistries => self.change_registries(),
            Event::ChangeLabels => self.change_labels(),
            Event::Outage => self.end_all(),
        }
    }

    /// What the cluster takes to notice something.
    fn wait(&self) -> Test {
        self.pods.wait_for_answers(self.pace.lag)
    }

    /// As `maxSurge: 1` and `maxUnavailable: 0` have it.
    fn roll(&mut self) -> Test {
        for _ in 0..self.fleet.replicas.len() {
            self.fleet.add()?;
            self.fleet.publish()?;
            self.wait()?;
            self.fleet
                .replica(0)?
                .webhook
                .process()
                .signal(Signal::Terminate)?;
            wait_for("it to be unready", SOON, || {
                self.fleet
                    .replicas
                    .first()
                    .is_some_and(|old| old.webhook.readyz().is_err())
            })?;
            self.fleet.publish_without(0)?;
            let mut old = self.fleet.replicas.remove(0);
            let status = old.webhook.process().wait(SOON)?;
            if !status.success() {
                return Err(format!("{status}: {}", old.webhook.process().log_tail()).into());
            }
        }
        Ok(())
    }

    fn kill(&mut self, number: usize) -> Test {
        self.fleet.replica(number)?.webhook.process().kill()?;
        self.wait()?;
        self.fleet.publish_without(number)?;
        // Its network stays until nobody asks there: another host may have its address, beyond this machine.
        let _dead = self.fleet.replicas.remove(number);
        self.fleet.add()?;
        self.fleet.publish()?;
        self.wait()
    }

    fn freeze_leader(&mut self) -> Test {
        let leader = self.fleet.wait_for_leader()?;
        self.fleet
            .replica(leader)?
            .webhook
            .process()
            .signal(Signal::Stop)?;
        self.wait()?;
        self.fleet.publish_without(leader)?;
        self.fleet.wait_for_leader_but(Some(leader))?;
        let frozen = self.fleet.replica(leader)?;
        frozen.webhook.process().signal(Signal::Continue)?;
        frozen.wait_until_it_does_not_lead()?;
        self.fleet.publish()?;
        self.wait()
    }

    fn cut_off(&mut self) -> Test {
        let number = self.most_asked()?;
        let before = self.failed_reviews()?;
        self.fleet.replica(number)?.network.cut()?;
        // Until one that was sent to it has waited for its timeout.
        wait_for("a review to have no answer", SOON, || {
            match self.failed_reviews() {
                Ok(now) if now > before => Ok(()),
                Ok(now) => Err(now.to_string()),
                Err(error) => Err(error.to_string()),
            }
        })?;
        self.wait()?;
        self.fleet.publish_without(number)?;
        self.wait()?;
        self.fleet.replica(number)?.network.reconnect()?;
        self.fleet.publish()?;
        self.wait()?;
        self.fleet.wait_for_leader().map(drop)
    }

    /// How many reviews nobody answered, as the API server counts them.
    fn failed_reviews(&self) -> Result<u64, Box<dyn Error>> {
        let metrics = self.world.cluster.run(&["get", "--raw", "/metrics"])?.stdout;
        let is_failure = |line: &str| {
            line.starts_with("apiserver_admission_webhook_fail_open_count{")
                || line.starts_with("apiserver_admission_webhook_rejection_count{")
                    && line.contains(r#"error_type="calling_webhook_error""#)
        };
        Ok(sum_of(&metrics, is_failure))
    }

    /// Which replica the API server asks, or asks most: it keeps a connection, and others may have none.
    fn most_asked(&self) -> Result<usize, Box<dyn Error>> {
        let counts = || -> Result<Vec<u64>, Box<dyn Error>> {
            self.fleet.replicas.iter().map(Replica::answered).collect()
        };
        let before = counts()?;
        self.wait()?;
        let more = counts()?
            .into_iter()
            .zip(before)
            // A replica that came meanwhile counts from zero.
            .map(|(now, before)| now.saturating_sub(before));
        let asked = more.enumerate().max_by_key(|(_, more)| *more);
        let asked = asked.filter(|(_, more)| *more > 0);
        Ok(asked.ok_or("no replica is asked")?.0)
    }

    fn rotate_certificate(&self) -> Test {
        const SECRET: [&str; 4] = ["secret", "webhook-certificate", "--namespace", OWN_NAMESPACE];
        let look = || -> Result<Value, Box<dyn Error>> { Ok(self.world.cluster.get_json(&SECRET)?) };
        let authority = |secret: &Value| text(secret, "/data/ca.crt").to_owned();
        let before = authority(&look()?);
        self.world.cluster.run(&[
            "delete",
            "secret",
            "webhook-certificate",
            "--namespace",
            OWN_NAMESPACE,
        ])?;
        wait_for("the certificate to rotate", SOON, || {
            let secret = look().map_err(|error| error.to_string())?;
            let is_over = authority(&secret) != before
                && ["next-ca.crt", "previous-ca.crt"]
                    .iter()
                    .all(|key| text(&secret, &format!("/data/{key}")).is_empty());
            // Its content is nobody's business.
            is_over.then_some(()).ok_or_else(|| "it goes on".to_owned())
        })?;
        self.wait()
    }

    /// Another registry is attached while its Pods are created, and is detached again; the first one is changed.
    fn change_registries(&self) -> Test {
        let (first, second) = (self.world.login(1)?, self.world.login(2)?);
        self.pods.race(NAMESPACE, second, || self.world.attach(second))?;
        // No replica needs to have heard of it yet: those that have not ask the API server.
        self.pods.take_up(second);
        self.wait()?;
        self.world.wait_until_minted(second)?;
        let bundle = self.world.bundle()?;
        wait_for("every replica to know the registry", SOON, || {
            for replica in &self.fleet.replicas {
                match injects(replica, &bundle, NAMESPACE, second) {
                    Ok(true) => {}
                    Ok(false) => return Err("one does not".to_owned()),
                    Err(error) => return Err(error.to_string()),
                }
            }
            Ok(())
        })?;
        if self.setting.with_policy {
            wait_for("the index to have the registry", SOON, || {
                let index = self.world.cluster.get_json(&["acrindex", "pullpass"]);
                let index = index.map_err(|error| error.to_string())?;
                let has = index
                    .pointer("/spec/hosts")
                    .and_then(|hosts| hosts.get(&second.host))
                    .is_some();
                has.then_some(()).ok_or(index.to_string())
            })?;
        }
        for fraction in [0.4, 0.6] {
            let object = ["acrregistry", first.name.as_str()];
            let spec = json!({"credential": {"refreshFraction": fraction}, "namespaces": all_but_nobody()});
            patch(self.world, &object, &json!({"spec": spec}))?;
            self.wait()?;
        }
        self.pods.give_up(second)?;
        self.world
            .cluster
            .run(&["delete", "acrregistry", &second.name, "--timeout=60s"])?;
        self.wait()
    }

    /// A namespace is made and has Pods immediately; its labels change while Pods are created, so that it gets the registry;
    /// it opts out, and in again.
    fn change_labels(&self) -> Test {
        let setting = self.setting;
        let namespace = &format!("{}-{}", setting.failure_policy, setting.components()).to_lowercase();
        let login = self.world.login(1)?;
        let label = |labels: &Value| {
            let labels = json!({"metadata": {"labels": labels}});
            patch(self.world, &["namespace", namespace], &labels)
        };
        self.world.add_namespace(namespace, &json!({}))?;
        self.pods.enter(namespace);
        self.wait()?;
        let registry = ["acrregistry", login.name.as_str()];
        patch(
            self.world,
            &registry,
            &json!({"spec": {"namespaces": all_but_nobody()}}),
        )?;
        for team in ["a", "b"] {
            self.pods.leave(namespace)?;
            label(&json!({"team": "nobody"}))?;
            self.wait_until_injected(namespace, false)?;
            self.pods
                .race(namespace, login, || label(&json!({"team": team})))?;
            self.pods.enter(namespace);
            self.wait()?;
        }
        self.pods.leave(namespace)?;
        label(&json!({"pullpass.dev/inject": "disabled"}))?;
        self.wait_until_injected(namespace, false)?;
        label(&json!({"pullpass.dev/inject": null}))?;
        self.wait_until_injected(namespace, true)?;
        self.pods.enter(namespace);
        self.wait()
    }

    fn wait_until_injected(&self, namespace: &str, wanted: bool) -> Test {
        let login = self.world.login(1)?;
        wait_for(&format!("injection to be {wanted}"), SOON, || {
            match self.world.create_pod(namespace, login) {
                Ok(pod) if is_injected(&pod, login) == wanted => Ok(()),
                Ok(pod) => Err(pod.to_string()),
                Err(error) if !wanted && is_by_a_rule(&error.to_string()) => Ok(()),
                Err(error) => Err(error.to_string()),
            }
        })?;
        Ok(())
    }

    /// The Service has their endpoints for a while, and then none. The leader gives its Lease back, or the next row would
    /// wait for it.
    fn end_all(&mut self) -> Test {
        let leader = self.fleet.wait_for_leader()?;
        for (number, replica) in self.fleet.replicas.iter_mut().enumerate() {
            if number == leader {
                replica.webhook.process().signal(Signal::Terminate)?;
            } else {
                replica.webhook.process().kill()?;
            }
        }
        self.fleet.replica(leader)?.webhook.process().wait(SOON)?;
        self.wait()?;
        self.world.publish(&[])?;
        self.wait()?;
        self.pods.wait_for_strangers()?;
        self.fleet.replicas.clear();
        Ok(())
    }
}

/// The namespaces of a registry that gives its pull secret to all but those of one team.
fn all_but_nobody() -> Value {
    json!({"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["nobody"]}]})
}
