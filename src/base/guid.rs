//! GUIDs, as the IDs of tenants and subscriptions are.

/// How many hexadecimal digits the groups of a GUID have, which hyphens part.
const GROUPS: [usize; 5] = [8, 4, 4, 4, 12];

/// Whether a text is a GUID, in any case.
pub fn is_guid(text: &str) -> bool {
    text.split('-').map(str::len).eq(GROUPS)
        && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guids_are_told_from_other_texts() {
        assert!(is_guid("7b795fb9-09d3-42f4-a494-38864F99BA3C"));
        for text in [
            "contoso.onmicrosoft.com",
            "",
            "7b795fb9",
            "zb795fb9-09d3-42f4-a494-38864f99ba3c",
            "7b795fb9-09d3-42f4-a494-38864f99ba3c-",
            "7b795fb909d342f4a49438864f99ba3c",
            "7b795fb90-9d3-42f4-a494-38864f99ba3c",
        ] {
            assert!(!is_guid(text), "{text}");
        }
    }
}
