//! Tables that align.

/// A table with its headings, or without, as `--no-headers` has it; the columns are the same.
pub(super) fn render_with(header: &[&str], rows: &[Vec<String>], with_header: bool) -> String {
    let table = render(header, rows);
    let headings = usize::from(!with_header);
    table.split_inclusive('\n').skip(headings).collect()
}

/// Lays rows out in columns that are as wide as their widest cell; the last column is not padded.
pub(super) fn render(header: &[&str], rows: &[Vec<String>]) -> String {
    let header: Vec<String> = header.iter().map(|&cell| cell.to_owned()).collect();
    let width = |column: usize| {
        rows.iter()
            .chain([&header])
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let mut text = String::new();
    for row in [&header].into_iter().chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            let padding = width.saturating_sub(cell.chars().count()) + 3;
            line.extend(std::iter::repeat_n(' ', padding));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_lines_have_no_trailing_blanks() {
        let rows = [
            vec!["a".to_owned(), "long cell".to_owned(), String::new()],
            vec!["bb".to_owned(), "c".to_owned(), "d".to_owned()],
        ];
        assert_eq!(
            render(&["X", "Y", "Z"], &rows),
            "X    Y           Z\na    long cell\nbb   c           d\n"
        );
    }
}
