//! What the demo prints: headings, commands, tables.

use std::env;
use std::io::{self, IsTerminal, Write};
use std::process;
use std::time::Duration;

const INDENT: &str = "   ";
const WIDTH: usize = 100;

/// Standard output, in colours where a person looks at it.
pub struct Paper {
    colours: bool,
    steps: u32,
}

#[derive(Clone, Copy)]
pub enum Style {
    Bold,
    Faint,
    Green,
    Yellow,
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Self::Bold => "1",
            Self::Faint => "2",
            Self::Green => "32",
            Self::Yellow => "33",
        }
    }
}

impl Paper {
    pub fn new() -> Self {
        Self {
            // https://no-color.org
            colours: io::stdout().is_terminal()
                && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
            steps: 0,
        }
    }

    fn styled(&self, style: Style, text: &str) -> String {
        if self.colours {
            format!("\x1b[{}m{text}\x1b[0m", style.code())
        } else {
            text.to_owned()
        }
    }

    /// The title of a step.
    pub fn step(&mut self, title: &str) {
        self.steps += 1;
        let title = format!("{}. {title}", self.steps);
        line(&format!("\n{}", self.styled(Style::Bold, &title)));
    }

    /// How long it took, and until what.
    pub fn took(&self, until: &str, took: Duration) {
        let text = format!("{} {until}", seconds(took));
        line(&format!("{INDENT}{}", self.styled(Style::Faint, &text)));
    }

    pub fn warning(&self, text: &str) {
        self.paragraph(Style::Yellow, text);
    }

    /// An explanation, broken into lines.
    pub fn text(&self, text: &str) {
        self.paragraph(Style::Faint, text);
    }

    fn paragraph(&self, style: Style, text: &str) {
        let mut words = String::new();
        for word in text.split_whitespace() {
            if !words.is_empty() && INDENT.len() + words.chars().count() + 1 + word.chars().count() > WIDTH {
                line(&format!("{INDENT}{}", self.styled(style, &words)));
                words.clear();
            }
            if !words.is_empty() {
                words.push(' ');
            }
            words.push_str(word);
        }
        line(&format!("{INDENT}{}", self.styled(style, &words)));
    }

    /// A command, as a person would type it.
    pub fn command(&self, command: &str) {
        line(&format!("{INDENT}$ {}", self.styled(Style::Bold, command)));
    }

    /// Columns as wide as their widest cell; the last one stands out.
    pub fn table(&self, header: &[&str], rows: &[Vec<String>]) {
        let width = |column: usize| {
            rows.iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .chain(header.get(column).map(|cell| cell.chars().count()))
                .max()
                .unwrap_or_default()
        };
        let widths: Vec<_> = (0..header.len()).map(width).collect();
        let print = |cells: &[&str], style: Option<Style>, last: Style| {
            let cells: Vec<_> = cells
                .iter()
                .zip(&widths)
                .enumerate()
                .map(|(column, (cell, width))| match style {
                    _ if column + 1 == widths.len() => self.styled(last, cell),
                    Some(style) => self.styled(style, &format!("{cell:width$}")),
                    None => format!("{cell:width$}"),
                })
                .collect();
            line(&format!("{INDENT}{}", cells.join("   ")));
        };
        print(header, Some(Style::Bold), Style::Bold);
        for row in rows {
            let cells: Vec<_> = row.iter().map(String::as_str).collect();
            print(&cells, None, Style::Green);
        }
    }
}

/// One line. A reader that ends has seen enough: the demo ends too, and with it all that it started.
pub fn line(text: &str) {
    if writeln!(io::stdout(), "{text}").is_err() {
        process::exit(0);
    }
}

/// What a command printed, or is to be typed.
pub fn output(output: &str) {
    for text in output.lines() {
        line(&format!("{INDENT}{text}"));
    }
}

fn seconds(took: Duration) -> String {
    format!("{:.1} s", took.as_secs_f32())
}
