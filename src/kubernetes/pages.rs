//! Long lists, read in pages, so that neither the API server nor this process holds them whole.

use std::fmt::Debug;

use futures::Stream;
use futures::stream::try_unfold;
use kube::Api;
use kube::api::ListParams;
use serde::de::DeserializeOwned;

/// How many objects a page has.
const PAGE: u32 = 250;

/// All objects of an API, page by page. It ends with the first error.
pub fn pages<K>(api: Api<K>) -> impl Stream<Item = kube::Result<Vec<K>>>
where
    K: Clone + Debug + DeserializeOwned,
{
    let first = Some(ListParams::default().limit(PAGE));
    try_unfold((api, first), async |(api, parameters)| {
        let Some(parameters) = parameters else {
            return Ok(None);
        };
        let page = api.list(&parameters).await?;
        let next = page
            .metadata
            .continue_
            .filter(|token| !token.is_empty())
            .map(|token| parameters.continue_token(&token));
        Ok(Some((page.items, (api, next))))
    })
}
