//! Whatever a Pod names as its image: no panic, and what is taken for a login server is one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pullpass::registry::image::ImageReference;
use pullpass::registry::login_server::LoginServer;

fuzz_target!(|text: &str| {
    let Ok(image) = ImageReference::parse(text) else { return };
    let Some(registry) = image.registry() else { return };
    assert!(text.starts_with(registry.as_str()));
    assert_eq!(text.as_bytes().get(registry.as_str().len()), Some(&b'/'));
    if LoginServer::is_named_by(&registry) {
        let login_server = LoginServer::parse(registry.host()).expect("its form was checked");
        assert!(registry.host().eq_ignore_ascii_case(login_server.as_str()));
    }
});
