//! Keys and values of labels, as Kubernetes allows them; keys of annotations are the same.
//!
//! Source: `IsQualifiedName` and `IsValidLabelValue` in `k8s.io/apimachinery/pkg/util/validation`.

use super::dns::is_subdomain;

/// The longest name in a key, behind its prefix, and the longest value of a label, in bytes.
pub const MAX_NAME: usize = 63;

/// Whether a text is a key: a name, with a subdomain and a slash before it or not.
pub fn is_key(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => is_subdomain(prefix) && is_name(name),
        None => is_name(text),
    }
}

/// Whether a text is the value of a label, which may be empty.
pub fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_name(text)
}

fn is_name(text: &str) -> bool {
    let is_end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    let bytes = text.as_bytes();
    text.len() <= MAX_NAME && is_end(bytes.first()) && is_end(bytes.last()) && bytes.iter().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_are_told_from_other_texts() {
        let longest = "a".repeat(MAX_NAME);
        for both in ["a", "0", "Team", "a_b.c-d", &longest] {
            assert!(is_key(both) && is_label_value(both), "{both}");
        }
        for key in ["contoso.com/Team", "a/b", &format!("a.b/{longest}")] {
            assert!(is_key(key) && !is_label_value(key), "{key}");
        }
        assert!(is_label_value("") && !is_key(""));
        for neither in [
            "-a",
            "a-",
            "_a",
            "a b",
            "é",
            "/a",
            "a/",
            "a/b/c",
            "A.b/c",
            "a\n",
            &format!("{longest}a"),
        ] {
            assert!(!is_key(neither) && !is_label_value(neither), "{neither:?}");
        }
    }
}
