//! The picture of how it works, in light and in dark, drawn from its source: a sequence diagram in the words of Mermaid.

use std::error::Error;
use std::fs;

use crate::{ROOT, Test, hold};

/// How far apart the lines of two participants are; half of that is beside the outer ones.
const COLUMN: usize = 190;
/// How far apart two steps are.
const ROW: usize = 44;
/// Where the first step is.
const TOP: usize = 92;
/// The longest text that fits between two lines in the widest of the usual fonts, in characters.
const LONGEST: usize = 24;
/// The height of the boxes of participants and notes.
const BOX: usize = 34;

/// Background, lines, text, and the boxes of participants and of notes.
struct Colours {
    background: &'static str,
    line: &'static str,
    text: &'static str,
    participant: &'static str,
    note: &'static str,
    own: &'static str,
}

const LIGHT: Colours = Colours {
    background: "#ffffff",
    line: "#57606a",
    text: "#1f2328",
    participant: "#eaeef2",
    note: "#fff8c5",
    own: "#b6e3ff",
};
const DARK: Colours = Colours {
    background: "#0d1117",
    line: "#9198a1",
    text: "#f0f6fc",
    participant: "#212830",
    note: "#4b3a05",
    own: "#0c4a7a",
};

struct Participant {
    id: String,
    name: String,
}

enum Step {
    /// From one participant to another; an answer is dashed.
    Message {
        from: usize,
        to: usize,
        is_answer: bool,
        text: String,
    },
    Note {
        over: usize,
        text: String,
    },
}

struct Diagram {
    participants: Vec<Participant>,
    steps: Vec<Step>,
}

impl Diagram {
    fn of(source: &str) -> Result<Self, Box<dyn Error>> {
        let mut diagram = Self {
            participants: Vec::new(),
            steps: Vec::new(),
        };
        let lines = source.lines().map(str::trim);
        for line in
            lines.filter(|line| !line.is_empty() && !line.starts_with("%%") && *line != "sequenceDiagram")
        {
            if let Some((id, name)) = line
                .strip_prefix("participant ")
                .and_then(|rest| rest.split_once(" as "))
            {
                diagram.participants.push(Participant {
                    id: id.to_owned(),
                    name: name.to_owned(),
                });
                continue;
            }
            let (who, text) = line.split_once(": ").ok_or_else(|| format!("what is {line}?"))?;
            if text.chars().count() > LONGEST {
                return Err(format!("{text} has more than {LONGEST} characters").into());
            }
            let text = text.to_owned();
            let step = if let Some(id) = who.strip_prefix("Note over ") {
                let over = diagram.column(id)?;
                Step::Note { over, text }
            } else {
                let (is_answer, arrow) = if who.contains("-->>") {
                    (true, "-->>")
                } else {
                    (false, "->>")
                };
                let (from, to) = who.split_once(arrow).ok_or_else(|| format!("what is {line}?"))?;
                let (from, to) = (diagram.column(from)?, diagram.column(to)?);
                Step::Message {
                    from,
                    to,
                    is_answer,
                    text,
                }
            };
            diagram.steps.push(step);
        }
        Ok(diagram)
    }

    fn column(&self, id: &str) -> Result<usize, Box<dyn Error>> {
        let found = self
            .participants
            .iter()
            .position(|participant| participant.id == id);
        found.ok_or_else(|| format!("nobody is called {id}").into())
    }

    fn drawn(&self, colours: &Colours) -> String {
        let width = COLUMN * self.participants.len();
        let height = TOP + ROW * self.steps.len();
        let Colours {
            background,
            line,
            text,
            ..
        } = colours;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
             font-family=\"-apple-system, 'Segoe UI', 'Liberation Sans', Helvetica, Arial, sans-serif\" font-size=\"13\" text-anchor=\"middle\">\n\
             <title>What happens to a Pod with an image on Azure Container Registry</title>\n\
             <desc>{}</desc>\n\
             <defs><marker id=\"head\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" orient=\"auto\">\
             <path d=\"M0,0 L8,4 L0,8 z\" fill=\"{line}\"/></marker></defs>\n\
             <rect width=\"{width}\" height=\"{height}\" fill=\"{background}\"/>\n<g fill=\"{text}\">\n",
            escaped(&self.told()),
        );
        for (column, participant) in self.participants.iter().enumerate() {
            let x = middle(column);
            svg.extend([format!(
                "<path d=\"M{x},{} V{}\" stroke=\"{line}\" stroke-opacity=\"0.5\"/>\n",
                16 + BOX,
                height - 12
            )]);
            let fill = if participant.name == "pullpass" {
                colours.own
            } else {
                colours.participant
            };
            svg.push_str(&boxed(x, 16, fill, line, &participant.name, true));
        }
        for (row, step) in self.steps.iter().enumerate() {
            let y = TOP + ROW * row;
            match step {
                Step::Note { over, text } => {
                    svg.push_str(&boxed(middle(*over), y - 19, colours.note, line, text, false));
                }
                Step::Message {
                    from,
                    to,
                    is_answer,
                    text,
                } => svg.push_str(&arrow(colours, y, [*from, *to], *is_answer, text)),
            }
        }
        svg.push_str("</g>\n</svg>\n");
        svg
    }

    /// The steps as sentences, for those who do not see the picture.
    fn told(&self) -> String {
        let name = |column: usize| {
            self.participants
                .get(column)
                .map_or("", |participant| participant.name.as_str())
        };
        let steps = self.steps.iter().map(|step| match step {
            Step::Note { over, text } => format!("{}: {text}.", name(*over)),
            Step::Message { from, to, text, .. } => format!("{} to {}: {text}.", name(*from), name(*to)),
        });
        steps.collect::<Vec<_>>().join(" ")
    }
}

fn middle(column: usize) -> usize {
    COLUMN * column + COLUMN / 2
}

fn boxed(x: usize, y: usize, fill: &str, line: &str, text: &str, is_bold: bool) -> String {
    let width = COLUMN - 24;
    let weight = if is_bold { " font-weight=\"600\"" } else { "" };
    format!(
        "<rect x=\"{}\" y=\"{y}\" width=\"{width}\" height=\"{BOX}\" rx=\"4\" fill=\"{fill}\" stroke=\"{line}\"/>\n\
         <text x=\"{x}\" y=\"{}\"{weight}>{}</text>\n",
        x - width / 2,
        y + 22,
        escaped(text)
    )
}

/// An arrow from column to column, with its text above the half that it comes from.
fn arrow(colours: &Colours, y: usize, [from, to]: [usize; 2], is_answer: bool, text: &str) -> String {
    let (begin, end) = (middle(from), middle(to));
    let next = if to > from {
        middle(from + 1)
    } else {
        middle(from.saturating_sub(1))
    };
    let dashes = if is_answer {
        " stroke-dasharray=\"6 4\""
    } else {
        ""
    };
    let Colours { background, line, .. } = colours;
    format!(
        "<path d=\"M{begin},{y} H{end}\" stroke=\"{line}\" stroke-width=\"1.5\"{dashes} marker-end=\"url(#head)\"/>\n\
         <text x=\"{}\" y=\"{}\" stroke=\"{background}\" stroke-width=\"4\" paint-order=\"stroke\">{}</text>\n",
        usize::midpoint(begin, next),
        y - 7,
        escaped(text)
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[test]
fn the_reference_picture_is_drawn_from_its_source() -> Test {
    let source = fs::read_to_string(format!("{ROOT}/docs/how-it-works.mmd"))?;
    let diagram = Diagram::of(&source)?;
    assert!(
        diagram.participants.len() >= 4 && diagram.steps.len() >= 10,
        "{source}"
    );
    let drawn = [
        ("docs/how-it-works.svg", diagram.drawn(&LIGHT)),
        ("docs/how-it-works-dark.svg", diagram.drawn(&DARK)),
    ];
    let [light, dark] = drawn.map(|(file, svg)| hold(file, &svg));
    light.and(dark)
}

#[test]
fn a_line_that_the_picture_would_lack_is_an_error() {
    for wrong in [
        "A->>B: nobody",
        "loop every day",
        "Note over B: nobody",
        "A->B: no such arrow",
        "Note over A: a text that fits between no lines",
    ] {
        let source = format!("sequenceDiagram\nparticipant A as One\n{wrong}\n");
        assert!(Diagram::of(&source).is_err(), "{wrong}");
    }
}
