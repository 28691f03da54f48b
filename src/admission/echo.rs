//! Answers the question of `pullpass check` whether the API server reaches pullpass. Under `failurePolicy: Ignore` nothing else
//! shows it to a user: a Pod is admitted whether or not pullpass was asked.

use std::borrow::Cow;

use crate::api::names::{ECHO_IMAGE, ECHO_WARNING};
use crate::policy::request::ReviewRequest;

/// The warnings of an answer, with one more where a dry run asks for it.
pub(super) fn with_echo<'a>(request: &ReviewRequest<'_>, warnings: &'a [String]) -> Cow<'a, [String]> {
    let mut images = request.pod.images.iter();
    if !request.dry_run || !images.any(|image| image.reference == ECHO_IMAGE) {
        return Cow::Borrowed(warnings);
    }
    let echo = format!("{ECHO_WARNING}{}", env!("CARGO_PKG_VERSION"));
    Cow::Owned(std::iter::once(echo).chain(warnings.iter().cloned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn warnings(image: &str, dry_run: bool) -> Vec<String> {
        let review = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {
            "uid": "u", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "CREATE",
            "namespace": "apps", "userInfo": {"username": "jane"}, "dryRun": dry_run,
            "object": {"metadata": {}, "spec": {"containers": [{"name": "main", "image": image}]}},
        }})
        .to_string();
        let request = ReviewRequest::decode(review.as_bytes()).unwrap();
        with_echo(&request, &["of the decision".to_owned()]).into_owned()
    }

    #[test]
    fn only_a_dry_run_that_asks_is_told_the_version() {
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            warnings(ECHO_IMAGE, true),
            [&format!("pullpass.dev/echo: {version}"), "of the decision"]
        );
        for (image, dry_run) in [(ECHO_IMAGE, false), ("mine.azurecr.io/echo", true)] {
            assert_eq!(warnings(image, dry_run), ["of the decision"], "{image} {dry_run}");
        }
    }
}
