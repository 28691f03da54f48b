//! The exit codes of all commands, of the help texts.

use crate::table::{code, head, table};
use crate::{Test, hold, printed};

/// The codes at the beginning of a clause such as `143 or 130 after a second one`, and what it says of them.
fn clause(text: &str) -> (String, String) {
    let is_code = |word: &str| word.trim_end_matches(',').parse::<u8>().is_ok();
    let words: Vec<_> = text.split_whitespace().collect();
    let count = words
        .iter()
        .take_while(|word| is_code(word) || **word == "or")
        .count();
    let (codes, rest) = words.split_at(count);
    let codes: Vec<_> = codes
        .iter()
        .map(|word| word.trim_end_matches(','))
        .filter(|word| *word != "or")
        .map(code)
        .collect();
    let rest = match rest.join(" ") {
        rest if rest.is_empty() => "success".to_owned(),
        rest if rest.starts_with("also ") => format!("success, {rest}"),
        rest => rest,
    };
    (codes.join(", "), rest)
}

#[test]
fn the_reference_has_the_exit_codes() -> Test {
    let manual = printed(&["man", "--format", "markdown"])?;
    let of = |text: &str, begin: &str| -> Option<Vec<(String, String)>> {
        let (_, rest) = text.split_once(begin)?;
        let said = rest
            .split("\n\n")
            .next()?
            .split(". ")
            .next()?
            .trim_end_matches('.');
        Some(said.split(';').map(clause).collect())
    };
    let general = of(&manual, "Exit codes: ").ok_or("the manual has no exit codes")?;
    let mut rows = Vec::new();
    for section in manual.split("\n## ").skip(1) {
        let command = section.lines().next().unwrap_or_default();
        let codes = of(section, "Exit code: ").ok_or_else(|| format!("{command} has no exit codes"))?;
        let anchor = command.replace(' ', "-");
        for (codes, when) in codes {
            assert!(!codes.is_empty(), "{command}: {when}");
            rows.push([format!("[`{command}`](../cli.md#{anchor})"), codes, when]);
        }
    }
    let general: Vec<_> = general.into_iter().map(|(codes, when)| [codes, when]).collect();
    assert_eq!(general.len(), 4, "{general:?}");
    let mut page = head("Exit codes", "the help texts in `src/cli`");
    page.push_str("The codes mean the same for every command:\n\n");
    page.push_str(&table(["code", "meaning"], &general));
    page.push_str("\nWith a wrong flag or argument, every command exits with 2. Each command adds:\n\n");
    page.push_str(&table(["command", "code", "when"], &rows));
    hold("docs/reference/exit-codes.md", &page)
}
