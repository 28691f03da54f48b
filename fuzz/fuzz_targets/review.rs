//! Whatever is sent as a review: no panic, and on JSON the decoder sees what `serde_json` sees.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pullpass::policy::request::ReviewRequest;
use serde_json::Value;

fuzz_target!(|body: &[u8]| {
    if ReviewRequest::decode(body).is_err() {
        return;
    }
    // The decoder does not check what it skips, so not all that it takes is JSON. Written again, no key is there twice.
    let Ok(value) = serde_json::from_slice::<Value>(body) else { return };
    let body = value.to_string();
    let Ok(request) = ReviewRequest::decode(body.as_bytes()) else { return };
    assert_eq!(Some(request.uid.as_ref()), value.pointer("/request/uid").and_then(Value::as_str));
    let read: Vec<_> = request.pod.images.iter().map(|image| image.reference.as_ref()).collect();
    let mut there = Vec::new();
    for list in ["containers", "ephemeralContainers", "initContainers", "volumes"] {
        let field = if list == "volumes" { "/image/reference" } else { "/image" };
        let items = value.pointer(&format!("/request/object/spec/{list}")).and_then(Value::as_array);
        there.extend(items.into_iter().flatten().filter_map(|item| item.pointer(field)?.as_str()));
    }
    assert_eq!(read, there);
});
