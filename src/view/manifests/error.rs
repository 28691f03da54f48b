//! What can be wrong with a directory of YAML.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why a directory can't be used, and where in it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ManifestsError {
    /// A file or the directory can't be read.
    #[error("{path} can't be read: {error}")]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A file is not YAML.
    #[error("{path} is not YAML: {message}")]
    Yaml {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        message: String,
    },
    /// An object has a field that is wrong, or that there is not.
    #[error("{path}: {kind} {name}: {message}")]
    Object {
        /// The file.
        path: PathBuf,
        /// The object's kind.
        kind: String,
        /// The object's name.
        name: String,
        /// What is wrong.
        message: String,
    },
    /// Two objects have one name.
    #[error("{path}: {kind} {name} is there already")]
    Twice {
        /// The file.
        path: PathBuf,
        /// The objects' kind.
        kind: String,
        /// Their name.
        name: String,
    },
}
