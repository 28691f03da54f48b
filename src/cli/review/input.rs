//! The files that are reviewed, as kubectl's `--filename` names them.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::base::encoding::decode;
use crate::cli::CliError;
use crate::view::manifests::{files, objects};

/// How deep directories are within each other.
const MAX_DEPTH: usize = 32;

/// A file, and what it holds.
pub(super) struct Input {
    pub(super) path: PathBuf,
    pub(super) objects: Vec<Value>,
}

/// Reads files, the manifests of directories, and standard input.
pub(super) fn read(paths: &[PathBuf], recursive: bool) -> Result<Vec<Input>, CliError> {
    let mut inputs = Vec::new();
    for path in paths {
        let found = if path.is_dir() {
            let found = of_directory(path, recursive)?;
            if found.is_empty() {
                return Err(CliError::Input(format!(
                    "{} has no .yaml, .yml or .json file: name a file, or read its directories too with --recursive",
                    path.display()
                )));
            }
            found
        } else {
            vec![path.clone()]
        };
        for path in found {
            let objects = objects(&path, &text(&path)?)?;
            inputs.push(Input { path, objects });
        }
    }
    if inputs.iter().all(|input| input.objects.is_empty()) {
        let names: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
        return Err(CliError::Input(format!(
            "{} holds no object: give Pods, workloads, a List or an AdmissionReview",
            names.join(", ")
        )));
    }
    Ok(inputs)
}

fn of_directory(directory: &Path, recursive: bool) -> Result<Vec<PathBuf>, CliError> {
    let mut found = Vec::new();
    let mut directories = vec![(directory.to_owned(), 0)];
    while let Some((directory, depth)) = directories.pop() {
        found.extend(files(&directory)?);
        if !recursive {
            continue;
        }
        if depth == MAX_DEPTH {
            return Err(CliError::Input(format!(
                "{} is too deep: no more than {MAX_DEPTH} directories within each other are read",
                directory.display()
            )));
        }
        let mut within = subdirectories(&directory).map_err(|error| unreadable(&directory, &error))?;
        within.sort_unstable_by(|a, b| b.cmp(a));
        directories.extend(within.into_iter().map(|path| (path, depth + 1)));
    }
    Ok(found)
}

/// Those that are no links: nothing is read twice.
fn subdirectories(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn text(path: &Path) -> Result<String, CliError> {
    let bytes = if path == Path::new("-") {
        let mut bytes = Vec::new();
        io::stdin().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        fs::read(path)
    };
    let text = bytes.and_then(|bytes| decode(&bytes).map_err(io::Error::other));
    text.map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &io::Error) -> CliError {
    CliError::Input(format!("{} can't be read: {error}", path.display()))
}
