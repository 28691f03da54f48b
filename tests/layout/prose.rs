//! How documents are written.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::Result;

/// Runs `tests/sentences` on a document, and gives the numbers of the lines that it names.
fn named(document: &str) -> Result<Vec<usize>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("page.md");
    fs::write(&path, document)?;
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sentences");
    let output = Command::new(program).arg(&path).output()?;
    let said = String::from_utf8(output.stderr)?;
    let begin = format!("sentences: {}:", path.display());
    let mut lines = Vec::new();
    for line in said.lines() {
        let rest = line.strip_prefix(&begin).ok_or_else(|| said.clone())?;
        lines.push(rest.split(':').next().unwrap_or(rest).parse::<usize>()?);
    }
    assert_eq!(output.status.success(), lines.is_empty(), "{said}");
    Ok(lines)
}

#[test]
fn lines_with_two_sentences_are_named() -> Result<()> {
    for two in [
        "It runs. It ends.",
        "It runs. 500 of them end.",
        "It runs. kustomize changes it.",
        "It reads `a`. `b` is left.",
        "* It runs (as root). It ends.",
        "1. It **runs.** It ends.",
        "   Is it there? It is.",
    ] {
        assert_eq!(named(&format!("Before.\n\n{two}\n"))?, [3], "{two}");
    }
    Ok(())
}

#[test]
fn lines_of_one_sentence_or_of_no_prose_pass() -> Result<()> {
    let document = "# A. B\n\nIt runs.\nIt has 1.5 KB (a. b), says \"no. No\" and `a. b`, e.g. here.\n1. It runs.\n\
                    2. **Runs.** It does.\n\n| a. b | c. d |\n\n```sh\na. b\n```\n\n    go vet ./... && c. d\n\
                    <img alt=\"a. b\">\nIt ends in [a page](a.md).\nIt tests ./... and more.\n";
    assert_eq!(named(document)?, Vec::<usize>::new());
    Ok(())
}
