//! The command line in Markdown, from nothing but what clap knows of it: a command that is added is in it.

use clap::{Arg, Command};

/// Arguments that every command has, and whose help says no more than their name.
const EVERYWHERE: [&str; 2] = ["help", "version"];

/// What `--output json` prints, beside Kubernetes' own objects: the command, and the schema's name.
const SCHEMAS: [(&str, &str); 5] = [
    ("pullpass review", "review"),
    ("pullpass audit", "audit-report"),
    ("pullpass check", "installation-check"),
    ("pullpass check REGISTRY", "check-registry"),
    ("pullpass version", "version"),
];

/// The whole page.
pub(super) fn page(command: Command) -> String {
    let mut command = command.bin_name("pullpass");
    command.build();
    let mut page = String::from("# The command line\n\n");
    page.push_str(
        "<!-- `make generate` writes this page from the help texts in src/cli: change those. -->\n\n",
    );
    page.extend([&about(&command), "\n\n| command | |\n|---|---|\n"]);
    let commands: Vec<_> = command
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .collect();
    for command in &commands {
        let name = name(command);
        let says = command.get_about().map(ToString::to_string).unwrap_or_default();
        let anchor = name.replace(' ', "-");
        page.extend(["| [`", name, "`](#", &anchor, ") | ", &escaped(&says), " |\n"]);
    }
    page.push('\n');
    after_help(&mut page, &command);
    page.push_str("\nAfter any command, `--help` prints what is below, and `-h` a shorter text.\n");
    page.push_str(
        "A `DURATION` is a number of seconds, such as `10` or `0.5`, or a duration in Kubernetes' form, such as `2m30s`.\n",
    );
    page.push_str("\n| `--output json` of | is described by |\n|---|---|\n");
    for (command, name) in SCHEMAS {
        let file = format!("schemas/{name}.json");
        page.extend(["| `", command, "` | [", &file, "](", &file, ") |\n"]);
    }
    for command in commands {
        section(&mut page, command);
    }
    page
}

fn section(page: &mut String, command: &Command) {
    page.extend(["\n## ", name(command), "\n\n", &about(command), "\n\n"]);
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim();
    page.extend(["```text\n", usage, "\n```\n\n"]);
    let mut headings: Vec<&str> = Vec::new();
    let arguments: Vec<_> = command
        .get_arguments()
        .filter(|argument| !argument.is_hide_set() && !EVERYWHERE.contains(&argument.get_id().as_str()))
        .collect();
    for argument in &arguments {
        if !headings.contains(&heading(argument)) {
            headings.push(heading(argument));
        }
    }
    for title in headings {
        page.extend(["**", title, "**\n\n"]);
        for argument in arguments.iter().filter(|argument| heading(argument) == title) {
            item(page, argument);
        }
        page.push('\n');
    }
    after_help(page, command);
}

fn heading(argument: &Arg) -> &str {
    match argument.get_help_heading() {
        Some(heading) => heading,
        None if argument.is_positional() => "Arguments",
        None => "Options",
    }
}

fn item(page: &mut String, argument: &Arg) {
    page.push_str("* ");
    if let (Some(short), Some(_)) = (argument.get_short(), argument.get_long()) {
        page.extend(["`-", short.encode_utf8(&mut [0; 4]), "`, "]);
    }
    page.extend(["`", &argument.to_string(), "`"]);
    for alias in argument.get_visible_aliases().unwrap_or_default() {
        page.extend([", `--", alias, "`"]);
    }
    page.push_str(": ");
    let help = argument.get_long_help().or(argument.get_help());
    let help = help.map(ToString::to_string).unwrap_or_default();
    page.push_str(&escaped(&help.split_whitespace().collect::<Vec<_>>().join(" ")));
    let takes_value = argument.get_action().takes_values();
    let defaults: Vec<_> = argument
        .get_default_values()
        .iter()
        .map(|value| value.to_string_lossy())
        .collect();
    if takes_value && !defaults.is_empty() {
        page.extend([". Default: `", &defaults.join(","), "`"]);
    }
    if let Some(variable) = argument.get_env() {
        page.extend([". Environment: `", &variable.to_string_lossy(), "`"]);
    }
    page.push('\n');
    if !takes_value {
        return;
    }
    for value in argument.get_possible_values() {
        page.extend(["  * `", value.get_name(), "`"]);
        if let Some(help) = value.get_help() {
            page.extend([": ", &escaped(&help.to_string())]);
        }
        page.push('\n');
    }
}

fn name(command: &Command) -> &str {
    command.get_bin_name().unwrap_or_else(|| command.get_name())
}

fn about(command: &Command) -> String {
    let about = command.get_long_about().or(command.get_about());
    escaped(&about.map(ToString::to_string).unwrap_or_default())
}

/// What comes after the flags: indented lines are commands.
fn after_help(page: &mut String, command: &Command) {
    let Some(text) = command.get_after_help() else {
        return;
    };
    let mut is_code = false;
    for line in text.to_string().lines() {
        let code = line.strip_prefix("  ");
        match (is_code, code.is_some()) {
            (false, true) => page.push_str("\n```sh\n"),
            (true, false) => page.push_str("```\n"),
            _ => {}
        }
        is_code = code.is_some();
        match code {
            Some(code) => page.push_str(code),
            None => page.push_str(&escaped(line)),
        }
        page.push('\n');
    }
    page.push_str(if is_code { "```\n" } else { "\n" });
}

/// What looks like a tag, outside code, is text.
fn escaped(text: &str) -> String {
    let parts = text.split('`').enumerate();
    let parts = parts.map(|(index, part)| match index % 2 {
        0 => part.replace('<', "\\<"),
        _ => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join("`")
}
