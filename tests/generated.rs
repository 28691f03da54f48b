//! What is generated and checked in is what the program generates now.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;

use pullpass_test_support::chart_readme;

fn check(file: &str, arguments: &[&str]) -> Result<(), Box<dyn Error>> {
    let printed = Command::new(env!("CARGO_BIN_EXE_pullpass"))
        .args(arguments)
        .output()?;
    assert!(printed.status.success(), "{printed:?}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    assert!(
        fs::read_to_string(path)? == String::from_utf8(printed.stdout)?,
        "{file} is out of date: make generate"
    );
    Ok(())
}

#[test]
fn the_crd_in_the_manifests_is_the_one_that_the_program_prints() -> Result<(), Box<dyn Error>> {
    check("manifests/base/crd.yaml", &["crd"])?;
    check("manifests/components/bindings/crd.yaml", &["crd", "--bindings"])
}

#[test]
fn readmes_of_the_charts_say_what_their_values_say() -> Result<(), Box<dyn Error>> {
    for chart in ["chart", "registries-chart"] {
        let chart = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("manifests")
            .join(chart);
        assert!(
            fs::read_to_string(chart.join("README.md"))? == chart_readme(&chart)?,
            "{}/README.md is out of date: make generate",
            chart.display()
        );
    }
    Ok(())
}

#[test]
fn the_command_line_page_says_what_the_help_texts_say() -> Result<(), Box<dyn Error>> {
    check("docs/cli.md", &["man", "--format", "markdown"])
}
