//! The defaults of all flags. `make generate` does not write this table: a default that changes is a decision, and
//! people rely on it.

use std::process::Command;

/// What a flag is where nobody sets it; flags that have no default are not here.
const DEFAULTS: &[(&str, &str, &str)] = &[
    ("serve", "--listen", "[::]:8443"),
    ("serve", "--metrics-listen", "[::]:8080"),
    ("serve", "--reload-interval", "15s"),
    ("serve", "--max-concurrent", "128"),
    ("serve", "--shutdown-delay", "10s"),
    ("serve", "--audit-log", "-"),
    ("serve", "--mode", "cluster-wide"),
    ("serve", "--own-namespace", "pullpass-system"),
    ("serve", "--unattached", "allow"),
    ("serve", "--forbidden", "warn"),
    ("serve", "--resync-interval", "10m"),
    ("serve", "--rescue", "off"),
    ("serve", "--webhook-configuration", "pullpass"),
    ("serve", "--ca-overlap", "1h"),
    ("serve", "--log-format", "json"),
    (
        "serve",
        "--log",
        "info,azure_identity=warn,typespec_client_core=warn",
    ),
    ("review", "--output", "table"),
    ("review", "--mode", "cluster-wide"),
    ("review", "--own-namespace", "pullpass-system"),
    ("review", "--unattached", "allow"),
    ("review", "--forbidden", "warn"),
    ("attach", "--own-namespace", "pullpass-system"),
    ("attach", "--dry-run", "none"),
    ("attach", "--timeout", "2m"),
    ("detach", "--own-namespace", "pullpass-system"),
    ("detach", "--dry-run", "none"),
    ("detach", "--timeout", "2m"),
    ("bind", "--own-namespace", "pullpass-system"),
    ("bind", "--dry-run", "none"),
    ("bind", "--timeout", "2m"),
    ("unbind", "--own-namespace", "pullpass-system"),
    ("unbind", "--dry-run", "none"),
    ("unbind", "--timeout", "2m"),
    ("audit", "--output", "table"),
    ("check", "--output", "text"),
    ("check", "--timeout", "10s"),
    ("check", "--own-namespace", "pullpass-system"),
    ("version", "--output", "text"),
    ("version", "--own-namespace", "pullpass-system"),
    ("man", "--format", "roff"),
];

#[test]
fn defaults_are_those_of_the_table() {
    let output = Command::new(super::PULLPASS)
        .args(["man", "--format", "markdown"])
        .env_clear()
        .output()
        .unwrap();
    let page = super::text(&output.stdout);
    let mut command = "";
    let mut found = Vec::new();
    for line in page.lines() {
        if let Some(name) = line.strip_prefix("## pullpass ") {
            command = name;
        }
        let Some((flag, default)) = line
            .strip_prefix("* `")
            .and_then(|line| line.split_once(" Default: `"))
        else {
            continue;
        };
        let long = flag.find("--").and_then(|start| flag.get(start..)).unwrap();
        let long = long.split([' ', '`', '[']).next().unwrap();
        found.push((command, long, default.split('`').next().unwrap()));
    }
    assert_eq!(found, DEFAULTS);
}
