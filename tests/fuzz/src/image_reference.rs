//! What a Pod names as its image.

use pullpass::registry::image::ImageReference;
use pullpass::registry::login_server::LoginServer;

/// What is taken for a registry's host is what the text begins with, and what is taken for a login server is one.
pub fn check(input: &[u8]) {
    let Some(text) = crate::text(input) else { return };
    let Ok(image) = ImageReference::parse(text) else {
        return;
    };
    let Some(registry) = image.registry() else { return };
    assert!(text.starts_with(registry.as_str()));
    assert_eq!(text.as_bytes().get(registry.as_str().len()), Some(&b'/'));
    // Hosts go into records, warnings and annotations, which are bounded because hosts are.
    assert!(registry.canonical().len() <= 255);
    if LoginServer::is_named_by(&registry) {
        let login_server = LoginServer::parse(registry.host()).expect("its form was checked");
        assert!(registry.host().eq_ignore_ascii_case(login_server.as_str()));
    }
}
