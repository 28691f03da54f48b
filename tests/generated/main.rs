//! What is generated and checked in is what the program generates now. `UPDATE=1` writes the pages of `docs/reference` and
//! the picture that have changed, and the test that did so fails.

mod diagram;
mod exit_codes;
mod fields;
mod metrics;
mod names;
mod record;
mod sample;
mod schema;
mod table;

use std::env;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;

use pullpass_test_support::chart_readme;

type Test = Result<(), Box<dyn Error>>;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// What the program prints.
fn printed(arguments: &[&str]) -> Result<String, Box<dyn Error>> {
    let printed = Command::new(env!("CARGO_BIN_EXE_pullpass"))
        .args(arguments)
        .output()?;
    assert!(printed.status.success(), "{printed:?}");
    Ok(String::from_utf8(printed.stdout)?)
}

fn check(file: &str, arguments: &[&str]) -> Test {
    assert!(
        fs::read_to_string(Path::new(ROOT).join(file))? == printed(arguments)?,
        "{file} is out of date: make generate"
    );
    Ok(())
}

/// Holds a file to what it should be. Where it is not, it is written if that was asked for; the test fails all the same, so that
/// no variable of the environment makes it pass.
fn hold(file: &str, text: &str) -> Test {
    let path = Path::new(ROOT).join(file);
    if fs::read_to_string(&path).is_ok_and(|kept| kept == text) {
        return Ok(());
    }
    if env::var_os("UPDATE").is_some_and(|update| update == "1") {
        fs::write(path, text)?;
        return Err(format!("{file} is written: read the difference").into());
    }
    Err(format!("{file} is out of date: make generate").into())
}

#[test]
fn the_crd_in_the_manifests_is_the_one_that_the_program_prints() -> Test {
    check("manifests/base/crd.yaml", &["crd"])?;
    check("manifests/components/bindings/crd.yaml", &["crd", "--bindings"])
}

#[test]
fn readmes_of_the_charts_say_what_their_values_say() -> Test {
    for chart in ["chart", "registries-chart"] {
        let chart = Path::new(ROOT).join("manifests").join(chart);
        assert!(
            fs::read_to_string(chart.join("README.md"))? == chart_readme(&chart)?,
            "{}/README.md is out of date: make generate",
            chart.display()
        );
    }
    Ok(())
}

#[test]
fn the_command_line_page_links_each_schema() -> Test {
    let page = fs::read_to_string(Path::new(ROOT).join("docs/cli.md"))?;
    for file in fs::read_dir(Path::new(ROOT).join("docs/schemas"))? {
        let link = format!("(schemas/{})", file?.file_name().display());
        assert!(page.contains(&link), "{link}");
    }
    Ok(())
}

#[test]
fn the_command_line_page_says_what_the_help_texts_say() -> Test {
    check("docs/cli.md", &["man", "--format", "markdown"])
}
