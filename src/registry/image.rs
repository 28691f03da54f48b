//! Image references, as the OCI distribution grammar reads them.
//!
//! The grammar is the one of the `distribution/reference` package, which the kubelet uses too: what comes
//! before the first slash is a registry only when it has a dot or a colon, is `localhost`, or has an
//! upper-case letter; everything else lives on Docker Hub. A registry is never found by searching for text.

use std::borrow::Cow;

use thiserror::Error;

use crate::registry::endpoint::Endpoint;

/// The longest repository that the grammar allows (`RepositoryNameTotalLengthMax`). It does not limit the registry: up to
/// its version 0.5 it counted the registry too, and a node can have a runtime with any version.
const MAX_REPOSITORY: usize = 255;
/// The longest tag.
const MAX_TAG: usize = 128;

/// A parsed image reference: `[registry/]repository[:tag][@digest]`. It borrows the text that it was parsed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ImageReference<'a> {
    registry: Option<RegistryHost<'a>>,
    repository: &'a str,
    tag: Option<&'a str>,
    digest: Option<&'a str>,
}

/// The registry part of an image reference, as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RegistryHost<'a> {
    authority: &'a str,
    host: &'a str,
    port: Option<&'a str>,
    is_lower_case: bool,
    /// What the host says by its form, parsed once for all that ask.
    endpoint: Option<Endpoint<'a>>,
}

/// Why a text is not an image reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ImageReferenceError {
    /// The text is empty.
    #[error("an image reference can't be empty")]
    Empty,
    /// What comes before the first slash is neither a host name, an IPv4 address nor an IPv6 address in brackets.
    #[error("the registry's host is not a host name, an IPv4 address or an IPv6 address in brackets")]
    Host,
    /// The registry's port is not made of digits, or is empty.
    #[error("the registry's port is not a number")]
    Port,
    /// The repository's path has a bad component.
    #[error(
        "the repository must be lower-case letters and digits, separated by `.`, `_`, `__`, `-` or `/`, \
         with nothing empty"
    )]
    Repository,
    /// The repository's path is longer than the grammar allows.
    #[error("the repository is longer than 255 characters")]
    NameTooLong,
    /// What follows the colon is not a tag.
    #[error("the tag must be 1 to 128 letters, digits, `_`, `.` or `-`, and begin with none of the last two")]
    Tag,
    /// What follows the at sign is not a digest.
    #[error("the digest must be `algorithm:hex`, with 32 hexadecimal digits or more (64 for sha256)")]
    Digest,
}

impl<'a> ImageReference<'a> {
    /// Parses a reference as a Pod has it, without trimming: the kubelet does not trim either.
    pub fn parse(text: &'a str) -> Result<Self, ImageReferenceError> {
        if text.is_empty() {
            return Err(ImageReferenceError::Empty);
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        let (registry, path) = match rest.split_once('/') {
            Some((first, path)) if names_registry(first) => (Some(RegistryHost::parse(first)?), path),
            _ => (None, rest),
        };
        let (repository, tag) = match path.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (path, None),
        };
        if repository.len() > MAX_REPOSITORY {
            return Err(ImageReferenceError::NameTooLong);
        }
        if !repository.split('/').all(is_path_component) {
            return Err(ImageReferenceError::Repository);
        }
        if !tag.is_none_or(is_tag) {
            return Err(ImageReferenceError::Tag);
        }
        if !digest.is_none_or(is_digest) {
            return Err(ImageReferenceError::Digest);
        }
        Ok(Self {
            registry,
            repository,
            tag,
            digest,
        })
    }

    /// The registry as it was written, or none for Docker Hub's short names.
    pub fn registry(&self) -> Option<RegistryHost<'a>> {
        self.registry
    }

    /// The repository's path inside the registry.
    pub fn repository(&self) -> &'a str {
        self.repository
    }

    /// The tag, if one was written.
    pub fn tag(&self) -> Option<&'a str> {
        self.tag
    }

    /// The digest with its algorithm, if one was written.
    pub fn digest(&self) -> Option<&'a str> {
        self.digest
    }
}

impl<'a> RegistryHost<'a> {
    fn parse(authority: &'a str) -> Result<Self, ImageReferenceError> {
        let (host, port) = match authority.strip_prefix('[') {
            Some(inner) => {
                let (address, after) = inner.split_once(']').ok_or(ImageReferenceError::Host)?;
                let is_ipv6 =
                    !address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
                if !is_ipv6 {
                    return Err(ImageReferenceError::Host);
                }
                let port = match after {
                    "" => None,
                    _ => Some(after.strip_prefix(':').ok_or(ImageReferenceError::Host)?),
                };
                let host = authority
                    .get(..address.len() + 2)
                    .ok_or(ImageReferenceError::Host)?;
                (host, port)
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        if !host.starts_with('[') && !host.split('.').all(is_domain_component) {
            return Err(ImageReferenceError::Host);
        }
        if !port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())) {
            return Err(ImageReferenceError::Port);
        }
        Ok(Self {
            authority,
            host,
            port,
            is_lower_case: !host.bytes().any(|byte| byte.is_ascii_uppercase()),
            endpoint: Endpoint::parse(host).ok(),
        })
    }

    /// Host and port exactly as they were written.
    pub fn as_str(&self) -> &'a str {
        self.authority
    }

    /// The host as it was written, without the port; an IPv6 address keeps its brackets.
    pub fn host(&self) -> &'a str {
        self.host
    }

    /// The port's digits as they were written.
    pub fn port(&self) -> Option<&'a str> {
        self.port
    }

    /// Whether the port is absent or is HTTPS' own, with leading zeros too: a client connects to the number.
    pub fn is_default_port(&self) -> bool {
        self.port.is_none_or(|port| port.trim_start_matches('0') == "443")
    }

    /// Whether a kubelet finds credentials for the host as it is written. It compares hosts by case, and ports as text.
    pub fn is_matched_by_kubelets(&self) -> bool {
        self.is_lower_case() && self.port.is_none_or(|port| !port.starts_with('0'))
    }

    /// Whether the host has no upper-case letter.
    pub fn is_lower_case(&self) -> bool {
        self.is_lower_case
    }

    /// The registry in Azure's clouds that the host is of by its form, whatever the port.
    pub(super) fn endpoint(&self) -> Option<&Endpoint<'a>> {
        self.endpoint.as_ref()
    }

    /// The form in which hosts are compared: in lower case, and with the port only where it is not HTTPS' own.
    pub fn canonical(&self) -> Cow<'a, str> {
        let written = if self.is_default_port() {
            self.host
        } else {
            self.authority
        };
        if self.is_lower_case() {
            Cow::Borrowed(written)
        } else {
            Cow::Owned(written.to_ascii_lowercase())
        }
    }
}

/// Whether the part before the first slash names a registry (`splitDockerDomain` of `distribution/reference`).
fn names_registry(first: &str) -> bool {
    first == "localhost"
        || first
            .bytes()
            .any(|b| matches!(b, b'.' | b':' | b'[') || b.is_ascii_uppercase() || !b.is_ascii())
}

fn is_domain_component(component: &str) -> bool {
    !component.is_empty()
        && !component.starts_with('-')
        && !component.ends_with('-')
        && component.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// `[a-z0-9]+` runs, joined by one `.`, one or two `_`, or any number of `-`.
fn is_path_component(component: &str) -> bool {
    let mut bytes = component.bytes().peekable();
    let mut after_separator = true;
    while let Some(byte) = bytes.next() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' => after_separator = false,
            _ if after_separator => return false,
            b'.' => after_separator = true,
            b'_' => {
                bytes.next_if_eq(&b'_');
                after_separator = true;
            }
            b'-' => {
                while bytes.next_if_eq(&b'-').is_some() {}
                after_separator = true;
            }
            _ => return false,
        }
    }
    !after_separator
}

fn is_tag(tag: &str) -> bool {
    tag.len() <= MAX_TAG
        && tag
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_')
        && tag
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

fn is_digest(digest: &str) -> bool {
    let Some((algorithm, hex)) = digest.split_once(':') else {
        return false;
    };
    let is_algorithm = algorithm.split(['+', '.', '-', '_']).all(|part| {
        part.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
            && part.bytes().all(|b| b.is_ascii_alphanumeric())
    });
    let lower_hex = hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let length_fits = match algorithm {
        "sha256" => hex.len() == 64 && lower_hex,
        "sha384" => hex.len() == 96 && lower_hex,
        "sha512" => hex.len() == 128 && lower_hex,
        _ => hex.len() >= 32 && hex.bytes().all(|b| b.is_ascii_hexdigit()),
    };
    is_algorithm && length_fits
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn host(text: &str) -> Option<&str> {
        ImageReference::parse(text)
            .expect(text)
            .registry()
            .map(|registry| registry.as_str())
    }

    #[test]
    fn kubelets_match_hosts_by_case_and_ports_as_text() {
        for (text, is_matched) in [
            ("myregistry.azurecr.io/a", true),
            ("myregistry.azurecr.io:443/a", true),
            ("myregistry.azurecr.io:0443/a", false),
            ("myRegistry.azurecr.io/a", false),
            ("myRegistry.azurecr.io:0443/a", false),
        ] {
            let image = ImageReference::parse(text).unwrap();
            let registry = image.registry().unwrap();
            assert_eq!(registry.is_matched_by_kubelets(), is_matched, "{text}");
        }
    }

    #[test]
    fn the_first_component_is_a_registry_only_by_the_grammar() {
        for (text, registry) in [
            ("nginx", None),
            ("library/nginx", None),
            ("team/app:1", None),
            ("localhost/app", Some("localhost")),
            ("localhost:5000/app", Some("localhost:5000")),
            ("myhost:5000/app", Some("myhost:5000")),
            (
                "mycontainerregistry.azurecr.io/nginx:v1",
                Some("mycontainerregistry.azurecr.io"),
            ),
            (
                "MyContainerRegistry.azurecr.io/nginx",
                Some("MyContainerRegistry.azurecr.io"),
            ),
            (
                "myregistry.azurecr.io:443/a/b/c",
                Some("myregistry.azurecr.io:443"),
            ),
            (
                "myregistry.azurecr.io.evil.example/a",
                Some("myregistry.azurecr.io.evil.example"),
            ),
            ("evil.example/myregistry.azurecr.io/a", Some("evil.example")),
            ("azurecr.io/a", Some("azurecr.io")),
            ("LOCALHOST/app", Some("LOCALHOST")),
            ("[::1]:5000/app", Some("[::1]:5000")),
            ("[fe80::1]/app", Some("[fe80::1]")),
            ("10.0.0.1/app", Some("10.0.0.1")),
            ("myregistry.azurecr.io", None),
        ] {
            assert_eq!(host(text), registry, "{text}");
        }
    }

    #[test]
    fn a_repository_is_as_long_whatever_its_registry_is() {
        let long_port = format!("myregistry.azurecr.io:{}443/", "0".repeat(2_000));
        for prefix in ["", "r.io/", "myregistry.azurecr.io:443/", &long_port] {
            let name = |length: usize| format!("{prefix}{}", "a".repeat(length));
            assert!(ImageReference::parse(&name(MAX_REPOSITORY)).is_ok(), "{prefix}");
            assert_eq!(
                ImageReference::parse(&name(MAX_REPOSITORY + 1)),
                Err(ImageReferenceError::NameTooLong)
            );
            // Tag and digest are not part of it.
            assert!(ImageReference::parse(&format!("{}:v1", name(MAX_REPOSITORY))).is_ok());
        }
    }

    #[test]
    fn a_port_has_any_number_of_leading_zeros() {
        let text = format!("myregistry.azurecr.io:{}443/a", "0".repeat(2_000));
        let registry = ImageReference::parse(&text).unwrap().registry().unwrap();
        assert_eq!(registry.canonical(), "myregistry.azurecr.io");
    }

    #[test]
    fn tags_and_digests_have_the_form_and_length_of_their_kind() {
        let parse = |text: &str| ImageReference::parse(text).map(|_| ());
        assert_eq!(parse(&format!("a:{}", "t".repeat(MAX_TAG))), Ok(()));
        assert_eq!(
            parse(&format!("a:{}", "t".repeat(MAX_TAG + 1))),
            Err(ImageReferenceError::Tag)
        );
        for (algorithm, length) in [("sha256", 64), ("sha384", 96), ("sha512", 128)] {
            let digest = |digit: &str, length| parse(&format!("a@{algorithm}:{}", digit.repeat(length)));
            assert_eq!(digest("f", length), Ok(()), "{algorithm}");
            for (digit, length) in [("f", length - 1), ("f", length + 1), ("F", length), ("g", length)] {
                assert_eq!(
                    digest(digit, length),
                    Err(ImageReferenceError::Digest),
                    "{algorithm}"
                );
            }
        }
        for (algorithm, digit, length, fits) in [
            ("blake3", "f", 32, true),
            ("blake3", "F", 64, true),
            ("multihash+b64.x-y_z", "0", 32, true),
            ("blake3", "f", 31, false),
            ("blake3", "g", 32, false),
            ("3blake", "f", 32, false),
            ("blake+3", "f", 32, false),
            ("bla/ke", "f", 32, false),
            ("", "f", 32, false),
        ] {
            let text = format!("a@{algorithm}:{}", digit.repeat(length));
            assert_eq!(parse(&text).is_ok(), fits, "{text}");
        }
    }

    #[test]
    fn an_ipv6_host_keeps_its_brackets() {
        let image = ImageReference::parse("[fe80::1]:5000/app").unwrap();
        let registry = image.registry().unwrap();
        assert_eq!((registry.host(), registry.port()), ("[fe80::1]", Some("5000")));
    }

    #[test]
    fn tag_digest_and_repository_are_told_apart() {
        let digest = format!("sha256:{}", "a1".repeat(32));
        let text = format!("myregistry.azurecr.io:443/team/app:1.0@{digest}");
        let image = ImageReference::parse(&text).unwrap();
        assert_eq!(image.repository(), "team/app");
        assert_eq!(image.tag(), Some("1.0"));
        assert_eq!(image.digest(), Some(digest.as_str()));
        let registry = image.registry().unwrap();
        assert_eq!(
            (registry.host(), registry.port(), registry.is_default_port()),
            ("myregistry.azurecr.io", Some("443"), true)
        );
    }

    #[test]
    fn hostile_text_is_refused() {
        use ImageReferenceError as E;
        let long_path = format!("myregistry.azurecr.io/{}", "a".repeat(64 * 1024));
        for (text, error) in [
            ("", E::Empty),
            ("user@myregistry.azurecr.io/a", E::Digest),
            ("user:pw@myregistry.azurecr.io/a", E::Digest),
            ("https://myregistry.azurecr.io/a", E::Port),
            ("//myregistry.azurecr.io/a", E::Repository),
            ("myregistry.azurecr.io//a", E::Repository),
            ("myregistry.azurecr.io/", E::Repository),
            ("/a", E::Repository),
            ("myregistry.azurecr.io/A", E::Repository),
            ("myregistry.azurecr.io/a ", E::Repository),
            (" myregistry.azurecr.io/a", E::Host),
            ("myregistry.azurecr.io/a\n", E::Repository),
            ("myregistry.azurecr.io\0/a", E::Host),
            ("myregistry.azurecr.io%2f/a", E::Host),
            ("myregistry.azurecr.io\\evil.example/a", E::Host),
            ("myregistry.azurecr.io#/a", E::Host),
            ("myregistry.azurecr.io?x/a", E::Host),
            ("myregistry\u{3002}azurecr\u{ff0e}io/a", E::Host),
            ("myregistry.azurecr.i\u{43e}/a", E::Host),
            ("\u{2028}.azurecr.io/a", E::Host),
            ("myregistry.azurecr.io./a", E::Host),
            (".azurecr.io/a", E::Host),
            ("-a.azurecr.io/a", E::Host),
            ("myregistry.azurecr.io:/a", E::Port),
            ("myregistry.azurecr.io:port/a", E::Port),
            ("myregistry.azurecr.io:44:3/a", E::Port),
            ("::1/a", E::Host),
            ("[::1/a", E::Host),
            ("[]/a", E::Host),
            ("[::1]evil/a", E::Host),
            ("[myregistry.azurecr.io]/a", E::Host),
            ("myregistry.azurecr.io/a:", E::Tag),
            ("myregistry.azurecr.io/a:.b", E::Tag),
            ("myregistry.azurecr.io/a:b:c", E::Tag),
            ("myregistry.azurecr.io/a@", E::Digest),
            ("myregistry.azurecr.io/a@sha256:abc", E::Digest),
            ("myregistry.azurecr.io/a@b@c", E::Digest),
            ("myregistry.azurecr.io/a..b", E::Repository),
            ("myregistry.azurecr.io/a___b", E::Repository),
            ("myregistry.azurecr.io/../a", E::Repository),
            (long_path.as_str(), E::NameTooLong),
        ] {
            assert_eq!(
                ImageReference::parse(text),
                Err(error),
                "{}",
                text.escape_debug().take(80).collect::<String>()
            );
        }
    }

    const COMPONENT: &str = "[a-z0-9]{1,8}((\\.|_|__|-{1,3})[a-z0-9]{1,8}){0,2}";

    proptest! {
        #[test]
        fn a_reference_put_together_comes_apart_the_same(
            registry in proptest::option::of("[a-zA-Z0-9]{1,20}\\.[a-z]{2,8}(:[0-9]{1,5})?"),
            path in proptest::collection::vec(COMPONENT, 1..4),
            tag in proptest::option::of("[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}"),
            hex in proptest::option::of("[0-9a-f]{64}"),
        ) {
            let path = path.join("/");
            // Without a registry, a first component with a dot would be one.
            prop_assume!(registry.is_some() || !path.split('/').next().is_some_and(|first| first.contains('.') || first == "localhost") || !path.contains('/'));
            let mut text = registry.as_ref().map_or(String::new(), |registry| format!("{registry}/"));
            text.push_str(&path);
            if let Some(tag) = &tag { text = format!("{text}:{tag}"); }
            if let Some(hex) = &hex { text = format!("{text}@sha256:{hex}"); }
            let image = ImageReference::parse(&text).unwrap();
            prop_assert_eq!(image.registry().map(|r| r.as_str().to_owned()), registry);
            prop_assert_eq!(image.repository(), path);
            prop_assert_eq!(image.tag().map(str::to_owned), tag);
            prop_assert_eq!(image.digest().map(str::to_owned), hex.map(|hex| format!("sha256:{hex}")));
        }

        #[test]
        fn no_text_panics_and_every_part_comes_from_it(text in "\\PC{0,80}") {
            if let Ok(image) = ImageReference::parse(&text) {
                prop_assert!(text.contains(image.repository()));
                prop_assert!(image.registry().is_none_or(|registry| text.starts_with(registry.as_str())));
            }
        }
    }
}
