//! Pods, and what the kubelet says of them.

use std::error::Error;

use pullpass_test_support::wait_for;
pub use pullpass_test_support::{pod, pod_with};
use serde_json::{Value, json};

use crate::world::{SOON, World, text};

/// The image that is on the node from the start, and that nobody needs a credential for.
pub const ON_THE_NODE: &str = "localhost/pause:v1";

/// The same, with a label.
pub fn labelled(mut pod: Value, key: &str, value: &str) -> Value {
    if let Some(metadata) = pod.pointer_mut("/metadata").and_then(Value::as_object_mut) {
        metadata.insert("labels".to_owned(), json!({key: value}));
    }
    pod
}

/// The states of a Pod's containers, those of init containers first.
pub fn container_statuses(pod: &Value) -> Vec<&Value> {
    ["init", "", "ephemeral"]
        .iter()
        .map(|kind| {
            if kind.is_empty() {
                "/status/containerStatuses".to_owned()
            } else {
                format!("/status/{kind}ContainerStatuses")
            }
        })
        .filter_map(|pointer| pod.pointer(&pointer).and_then(Value::as_array))
        .flatten()
        .collect()
}

impl World<'_> {
    pub fn pod(&self, namespace: &str, name: &str) -> Result<Value, Box<dyn Error>> {
        Ok(self.cluster.get_json(&["pod", name, "--namespace", namespace])?)
    }

    /// Waits until a Pod passes a check. Where it does not, the Events say why.
    pub fn wait_for_pod<T>(
        &self,
        namespace: &str,
        name: &str,
        what: &str,
        mut find: impl FnMut(&Value) -> Option<T>,
    ) -> Result<T, Box<dyn Error>> {
        let what = format!("the Pod {namespace}/{name} to {what}");
        let found = wait_for(&what, SOON, || {
            let pod = self.pod(namespace, name).map_err(|error| error.to_string())?;
            find(&pod).ok_or_else(|| format!("{:#?}", pod.pointer("/status")))
        });
        found.map_err(|error| {
            let events = self.cluster.run(&["events", "--namespace", namespace]);
            let events = events.map_or_else(|error| error.to_string(), |events| events.stdout);
            format!("{error}\n{events}").into()
        })
    }

    /// Waits until all containers of a Pod run.
    pub fn wait_until_running(&self, namespace: &str, name: &str) -> Result<Value, Box<dyn Error>> {
        self.wait_for_pod(namespace, name, "run", |pod| {
            let is_running = text(pod, "/status/phase") == "Running"
                && container_statuses(pod)
                    .iter()
                    .all(|status| status.pointer("/ready") == Some(&json!(true)));
            is_running.then(|| pod.clone())
        })
    }

    /// Waits until a Pod has succeeded.
    pub fn wait_until_succeeded(&self, namespace: &str, name: &str) -> Result<Value, Box<dyn Error>> {
        self.wait_for_pod(namespace, name, "succeed", |pod| {
            (text(pod, "/status/phase") == "Succeeded").then(|| pod.clone())
        })
    }

    /// Waits until a container can't be started because its image is missing, and returns what the kubelet says of the
    /// pull.
    pub fn wait_until_refused(&self, namespace: &str, name: &str) -> Result<String, Box<dyn Error>> {
        self.wait_for_pod(namespace, name, "be without its image", |pod| {
            // The reason alternates; only the first and the last of the messages have the cause in full.
            container_statuses(pod).into_iter().find_map(|status| {
                let waiting = status.pointer("/state/waiting")?;
                ["ErrImagePull", "ImagePullBackOff"]
                    .contains(&text(waiting, "/reason"))
                    .then(|| text(waiting, "/message").to_owned())
            })
        })
    }

    /// Waits for the Pods that a selector names, and for what is to be reported about each.
    pub fn wait_for_pods(
        &self,
        namespace: &str,
        selector: &str,
        count: usize,
    ) -> Result<Vec<String>, Box<dyn Error>> {
        let what = format!("{count} Pods of {selector} in {namespace}");
        let arguments = ["pods", "--namespace", namespace, "--selector", selector];
        Ok(wait_for(&what, SOON, || {
            let list = self.cluster.get_json(&arguments).map_err(|e| e.to_string())?;
            let pods = list.pointer("/items").and_then(Value::as_array);
            let names: Vec<_> = pods
                .into_iter()
                .flatten()
                .map(|pod| text(pod, "/metadata/name").to_owned())
                .collect();
            if names.len() == count {
                Ok(names)
            } else {
                Err(format!("{names:?}"))
            }
        })?)
    }
}
