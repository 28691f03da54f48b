//! Names as DNS has them (RFC 1123), which most names of Kubernetes' objects are.
//!
//! Source: `IsDNS1123Label` and `IsDNS1123Subdomain` in `k8s.io/apimachinery/pkg/util/validation`.

/// The longest label, in bytes.
pub const MAX_LABEL: usize = 63;
/// The longest subdomain, in bytes.
pub const MAX_SUBDOMAIN: usize = 253;

/// Whether a text is a label, as the names of namespaces are.
pub fn is_label(text: &str) -> bool {
    text.len() <= MAX_LABEL && is_word(text)
}

/// Whether a text is a subdomain, as the names of most objects are: words with dots between them. Kubernetes bounds the
/// whole and not each word.
pub fn is_subdomain(text: &str) -> bool {
    text.len() <= MAX_SUBDOMAIN && text.split('.').all(is_word)
}

fn is_word(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && !text.starts_with('-') && !text.ends_with('-') && text.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_subdomains_are_told_from_other_texts() {
        let longest = "a".repeat(MAX_LABEL);
        for label in ["a", "0", "kube-system", "a-0", &longest] {
            assert!(is_label(label) && is_subdomain(label), "{label}");
        }
        for subdomain in ["a.b", "web-1.v2", &format!("{longest}a")] {
            assert!(!is_label(subdomain) && is_subdomain(subdomain), "{subdomain}");
        }
        for neither in [
            "", "-a", "a-", "A", "a_b", "a b", "é", ".a", "a.", "a..b", "a.-b", "a\n",
        ] {
            assert!(!is_label(neither) && !is_subdomain(neither), "{neither:?}");
        }
        assert!(!is_subdomain(&"a".repeat(MAX_SUBDOMAIN + 1)));
    }
}
