//! Long lists, read in pages, so that neither the API server nor this process holds them whole.

use std::fmt::Debug;

use futures::Stream;
use futures::stream::try_unfold;
use kube::Api;
use kube::api::{ListParams, ObjectList};
use kube::core::PartialObjectMeta;
use serde::de::DeserializeOwned;

use super::call::{CallError, call};

/// How many objects a page has.
const PAGE: u32 = 250;

/// All objects of an API, page by page. It ends with the first error; a page that does not come in time is one.
pub fn pages<K>(api: Api<K>) -> impl Stream<Item = Result<Vec<K>, CallError>>
where
    K: Clone + Debug + DeserializeOwned,
{
    pages_of(api, ListParams::default())
}

/// The same, of the objects that the parameters select.
pub fn pages_of<K>(api: Api<K>, parameters: ListParams) -> impl Stream<Item = Result<Vec<K>, CallError>>
where
    K: Clone + Debug + DeserializeOwned,
{
    listed(parameters, async move |parameters: &ListParams| {
        call(api.list(parameters)).await
    })
}

/// The same, of only their metadata.
pub fn metadata_pages<K>(
    api: Api<K>,
    parameters: ListParams,
) -> impl Stream<Item = Result<Vec<PartialObjectMeta<K>>, CallError>>
where
    K: Clone + Debug + DeserializeOwned,
{
    listed(parameters, async move |parameters: &ListParams| {
        call(api.list_metadata(parameters)).await
    })
}

/// What this lists, page by page.
fn listed<K: Clone>(
    parameters: ListParams,
    list: impl AsyncFn(&ListParams) -> Result<ObjectList<K>, CallError>,
) -> impl Stream<Item = Result<Vec<K>, CallError>> {
    let first = Some(parameters.limit(PAGE));
    try_unfold((list, first), async |(list, parameters)| {
        let Some(parameters) = parameters else {
            return Ok(None);
        };
        let page = list(&parameters).await?;
        let next = next(parameters, page.metadata.continue_);
        Ok(Some((page.items, (list, next))))
    })
}

/// What asks for the page after one that ended with this token; none after the last.
fn next(parameters: ListParams, token: Option<String>) -> Option<ListParams> {
    let token = token.filter(|token| !token.is_empty())?;
    Some(parameters.continue_token(&token))
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::TryStreamExt;
    use kube::Client;
    use kube::client::Body;
    use tokio::time::Instant;

    use super::*;
    use crate::kubernetes::call::CALL_TIMEOUT;
    use crate::kubernetes::pods;

    /// Answers with a first page, and nothing more.
    fn one_page() -> Client {
        let service = tower::service_fn(|request: http::Request<Body>| async move {
            if request
                .uri()
                .query()
                .is_some_and(|query| query.contains("continue="))
            {
                return std::future::pending().await;
            }
            let page = serde_json::json!({
                "apiVersion": "v1", "kind": "PodList", "metadata": {"continue": "more"},
                "items": [{"metadata": {"name": "web", "namespace": "apps"}, "spec": {"containers": []}}],
            });
            Ok::<_, kube::Error>(http::Response::new(Body::from(page.to_string().into_bytes())))
        });
        Client::new(service, "default")
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_without_an_answer_ends_the_list() {
        let mut pages = pin!(pages(pods::api(one_page(), None)));
        assert_eq!(pages.try_next().await.unwrap().map(|page| page.len()), Some(1));
        let begin = Instant::now();
        let error = pages.try_next().await.unwrap_err();
        assert!(matches!(error, CallError::TimedOut(_)), "{error}");
        assert_eq!(begin.elapsed(), CALL_TIMEOUT);
    }
}
