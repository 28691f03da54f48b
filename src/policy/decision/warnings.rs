//! What is said to the sender of a request: a few texts, however many images it has.

/// How many warnings one answer carries at most.
const MAX_WARNINGS: usize = 10;

/// Warnings, each once. What there is no room for is counted, and not kept.
#[derive(Debug, Default)]
pub(super) struct Warnings {
    kept: Vec<String>,
    left_out: usize,
}

impl Warnings {
    pub(super) fn push(&mut self, warning: String) {
        if self.kept.contains(&warning) {
            return;
        }
        if self.kept.len() < MAX_WARNINGS {
            self.kept.push(warning);
        } else {
            self.left_out += 1;
        }
    }

    /// The warnings, and how many there are besides.
    pub(super) fn into_texts(self) -> Vec<String> {
        let mut texts = self.kept;
        if self.left_out > 0 {
            let left_out = self.left_out;
            texts.push(format!(
                "pullpass: and {left_out} more; the audit log has all images"
            ));
        }
        texts
    }
}

impl Extend<String> for Warnings {
    fn extend<I: IntoIterator<Item = String>>(&mut self, warnings: I) {
        warnings.into_iter().for_each(|warning| self.push(warning));
    }
}

impl FromIterator<String> for Warnings {
    fn from_iter<I: IntoIterator<Item = String>>(texts: I) -> Self {
        let mut warnings = Self::default();
        warnings.extend(texts);
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_kept_once_and_counted_beyond_the_limit() {
        let texts = |count: usize| {
            let numbered = (0..count).flat_map(|n| [format!("warning {n}"), format!("warning {n}")]);
            numbered.collect::<Warnings>().into_texts()
        };
        assert_eq!(texts(1), ["warning 0"]);
        assert_eq!(texts(MAX_WARNINGS).len(), MAX_WARNINGS);
        let more = texts(MAX_WARNINGS + 1);
        assert_eq!(more.len(), MAX_WARNINGS + 1);
        // What is left out is not remembered, so that it counts as often as it comes.
        let last = more.last().unwrap();
        assert_eq!(last, "pullpass: and 2 more; the audit log has all images");
    }
}
