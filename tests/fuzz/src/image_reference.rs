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
        let login_server = LoginServer::of_host(registry.host()).expect("its form was checked");
        assert_eq!(LoginServer::known_host(&registry), login_server.as_str());
        let host = registry.host().to_ascii_lowercase();
        let (label, suffix) = login_server.as_str().split_once('.').expect("a suffix");
        let between = host
            .strip_prefix(label)
            .and_then(|rest| rest.strip_suffix(suffix));
        let between = between.expect("the registry's own host, with a region in it or none");
        assert!(
            between == "." || (between.starts_with('.') && between.ends_with(".geo.")),
            "{host}"
        );
    }
}
