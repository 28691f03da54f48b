//! Names in a message, of which there may be thousands.

/// The first names, and how many more there are.
pub fn abridged<T: AsRef<str>>(names: impl IntoIterator<Item = T>, most: usize) -> String {
    let mut text = String::new();
    let mut more = 0_usize;
    for (index, name) in names.into_iter().enumerate() {
        if index < most {
            text.push_str(if index == 0 { "" } else { ", " });
            text.push_str(name.as_ref());
        } else {
            more = more.saturating_add(1);
        }
    }
    match more {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_up_to_a_number() {
        for (names, expected) in [
            (&[][..], ""),
            (&["a"], "a"),
            (&["a", "b"], "a, b"),
            (&["a", "b", "c", "d"], "a, b and 2 more"),
        ] {
            assert_eq!(abridged(names, 2), expected);
        }
    }
}
