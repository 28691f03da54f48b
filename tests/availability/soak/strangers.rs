//! Pods with an image of a registry that nobody attached, which the rule `unattached` refuses: one after the other, as long as
//! others are created.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pullpass_test_support::{Login, wait_for};
use serde::Serialize;
use serde_json::json;
use tokio::time::sleep;

use super::pods::{Answer, LONG_PAUSE, PAUSE, Pods, Shared, attempt, lock};
use crate::world::{NAMESPACE, SOON, Test};

/// How many attempts ended how.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Counts {
    pub admitted: usize,
    /// By a replica, or since none answers and the webhook's `failurePolicy` says so.
    pub refused_by_webhook: usize,
    /// By the component `enforce`, which is asked last.
    pub refused_by_enforce: usize,
}

impl Counts {
    /// What came since then.
    pub fn since(&self, before: &Self) -> Self {
        Self {
            admitted: self.admitted - before.admitted,
            refused_by_webhook: self.refused_by_webhook - before.refused_by_webhook,
            refused_by_enforce: self.refused_by_enforce - before.refused_by_enforce,
        }
    }

    fn answered(&self) -> usize {
        self.admitted + self.refused_by_webhook + self.refused_by_enforce
    }
}

/// Whose images these are.
pub fn login() -> Login {
    Login::new("strangeregistry", 9)
}

/// Whether the component `enforce` refused a Pod.
pub fn is_by_enforce(message: &str) -> bool {
    message.contains("'pullpass-enforce'")
}

impl Pods {
    /// Waits until a stranger's Pod was begun after this, and answered, whatever the answer.
    pub fn wait_for_strangers(&self) -> Test {
        // One may be under way.
        let enough = self.counts().strangers.answered() + 2;
        wait_for("strangers' Pods to be answered", SOON, || {
            self.counts().strangers.answered() >= enough
        })?;
        Ok(())
    }
}

/// Creates these Pods, one after the other.
pub async fn create_all(shared: Arc<Shared>) {
    let (login, labels) = (login(), json!({}));
    let mut number = 0;
    while !shared.end.load(Ordering::Relaxed) {
        number += 1;
        let name = format!("stranger-{number}");
        loop {
            let answer = attempt(&shared.client, NAMESPACE, &login, &name, &labels).await;
            count(&mut lock(&shared.counts).strangers, &answer);
            if answer.is_known() {
                break;
            }
            if shared.end.load(Ordering::Relaxed) {
                return;
            }
            // The Pod may have been admitted.
            sleep(LONG_PAUSE).await;
        }
        sleep(PAUSE).await;
    }
}

fn count(counts: &mut Counts, answer: &Answer) {
    match answer {
        Answer::Admitted { .. } => counts.admitted += 1,
        Answer::Refused(text) if is_by_enforce(text) => counts.refused_by_enforce += 1,
        Answer::Refused(_) => counts.refused_by_webhook += 1,
        // The API server restarts, or has too much to do. The Pod is tried again.
        Answer::None(_) => {}
    }
}
