//! A table in Markdown.

/// A table with these headings and rows. A line is a row, so that no cell has a line of its own.
pub fn table<const N: usize>(headings: [&str; N], rows: &[[String; N]]) -> String {
    let row =
        |cells: &[String; N]| format!("| {} |\n", cells.each_ref().map(|cell| escaped(cell)).join(" | "));
    let mut text = row(&headings.map(str::to_owned));
    text.extend(["|", &"---|".repeat(N), "\n"]);
    text.extend(rows.iter().map(row));
    text
}

fn escaped(cell: &str) -> String {
    let words: Vec<_> = cell.split_whitespace().collect();
    words.join(" ").replace('|', "\\|")
}

/// Text as code, or nothing.
pub fn code(text: &str) -> String {
    match text {
        "" => String::new(),
        text => format!("`{text}`"),
    }
}

/// The head of a page: its title and where its text comes from.
pub fn head(title: &str, sources: &str) -> String {
    format!("# {title}\n\n<!-- `make generate` writes this page from {sources}: change the sources. -->\n\n")
}
