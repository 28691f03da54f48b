//! Lines into a file, a pipe or standard output.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::sink::{Lost, Sink, count};

/// Where the audit log is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Standard output.
    Stdout,
    /// A file that is appended to, and opened again when it is asked for: after a rotation.
    File(PathBuf),
}

impl FromStr for Destination {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(if text == "-" {
            Self::Stdout
        } else {
            Self::File(text.into())
        })
    }
}

/// An open destination.
struct Stream {
    /// Without a buffer, so that what it took is known.
    out: Box<dyn Write + Send>,
    /// Whether its last line has no end, where that can be seen.
    torn: Option<bool>,
}

impl Destination {
    fn open(&self) -> io::Result<Stream> {
        let (file, torn) = match self {
            Self::Stdout => (stdout()?, None),
            Self::File(path) => {
                let file = OpenOptions::new().create(true).append(true).open(path)?;
                let torn = is_torn(&file, path);
                (file, torn)
            }
        };
        let out = Box::new(file);
        Ok(Stream { out, torn })
    }
}

/// Standard output without the buffer that Rust puts before it.
fn stdout() -> io::Result<File> {
    #[cfg(unix)]
    let owned = std::os::fd::AsFd::as_fd(&io::stdout()).try_clone_to_owned();
    #[cfg(windows)]
    let owned = std::os::windows::io::AsHandle::as_handle(&io::stdout()).try_clone_to_owned();
    owned.map(File::from)
}

/// Whether a file ends in the middle of a line; nothing for a pipe, or where it may not be read.
fn is_torn(file: &File, path: &Path) -> Option<bool> {
    let metadata = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    if metadata.len() == 0 {
        return Some(false);
    }
    let mut reader = File::open(path).ok()?;
    let mut last = [0];
    reader.seek(SeekFrom::End(-1)).ok()?;
    reader.read_exact(&mut last).ok()?;
    Some(last != *b"\n")
}

/// Writes lines to a stream, each on a line of its own whatever was torn before it.
pub(super) struct StreamSink {
    open: Box<dyn FnMut() -> io::Result<Stream> + Send>,
    out: Box<dyn Write + Send>,
    /// Whether what was written last is not a whole line.
    torn: bool,
}

impl StreamSink {
    pub(super) fn open(destination: &Destination) -> io::Result<Self> {
        let destination = destination.clone();
        Self::new(move || destination.open())
    }

    fn new(mut open: impl FnMut() -> io::Result<Stream> + Send + 'static) -> io::Result<Self> {
        let Stream { out, torn } = open()?;
        Ok(Self {
            open: Box::new(open),
            out,
            torn: torn.unwrap_or(false),
        })
    }

    /// Writes as much as is taken, and says in `taken` how much of the lines that was.
    fn write(&mut self, lines: &[u8], taken: &mut usize) -> io::Result<()> {
        if self.torn {
            self.out.write_all(b"\n")?;
            self.torn = false;
        }
        while let Some(rest) = lines.get(*taken..).filter(|rest| !rest.is_empty()) {
            match self.out.write(rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => *taken += written,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Sink for StreamSink {
    fn deliver(&mut self, lines: &[u8]) -> Result<(), Lost> {
        let mut taken = 0;
        let Err(error) = self.write(lines, &mut taken) else {
            return Ok(());
        };
        let (kept, rest) = lines.split_at_checked(taken).unwrap_or((lines, &[]));
        if let Some(last) = kept.last() {
            self.torn = *last != b'\n';
        }
        // A line that lacks nothing but its end gets that before the next one.
        let whole = u64::from(self.torn && rest.first() == Some(&b'\n'));
        let lines = count(rest).saturating_sub(whole);
        let mut why = error.to_string();
        if let Err(error) = self.reopen() {
            why = format!("{why}; and it can't be opened again: {error}");
        }
        Err(Lost { lines, why })
    }

    fn reopen(&mut self) -> io::Result<()> {
        let Stream { out, torn } = (self.open)()?;
        self.out = out;
        self.torn = torn.unwrap_or(self.torn);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::sync::{Arc, Mutex};

    /// Takes so many bytes, and then fails.
    struct Full {
        room: usize,
        taken: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let fits = bytes.len().min(self.room);
            if fits == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            self.room -= fits;
            self.taken.lock().unwrap().extend_from_slice(&bytes[..fits]);
            Ok(fits)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is in a stream that first has so much room, and then enough, and how many lines of `first` were lost.
    fn written(room: usize, first: &str) -> (String, u64) {
        let taken = Arc::new(Mutex::new(Vec::new()));
        let mut rooms = vec![usize::MAX, room];
        let stream = Arc::clone(&taken);
        let mut sink = StreamSink::new(move || {
            Ok(Stream {
                out: Box::new(Full {
                    room: rooms.pop().unwrap(),
                    taken: Arc::clone(&stream),
                }),
                torn: None,
            })
        })
        .unwrap();
        let lost = sink.deliver(first.as_bytes()).unwrap_err();
        sink.deliver(b"next\n").unwrap();
        drop(sink);
        let taken = Arc::into_inner(taken).unwrap().into_inner().unwrap();
        (String::from_utf8(taken).unwrap(), lost.lines)
    }

    #[test]
    fn a_line_after_a_torn_one_starts_on_a_line_of_its_own() {
        assert_eq!(written(0, "one\ntwo\n"), ("next\n".to_owned(), 2));
        assert_eq!(written(2, "one\ntwo\n"), ("on\nnext\n".to_owned(), 2));
        assert_eq!(written(3, "one\ntwo\n"), ("one\nnext\n".to_owned(), 1));
        assert_eq!(written(4, "one\ntwo\n"), ("one\nnext\n".to_owned(), 1));
        assert_eq!(written(6, "one\ntwo\n"), ("one\ntw\nnext\n".to_owned(), 1));
        assert_eq!(written(7, "one\ntwo\n"), ("one\ntwo\nnext\n".to_owned(), 0));
    }

    #[test]
    fn a_file_that_was_torn_before_is_gone_on_with_on_a_new_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.log");
        for (before, expected) in [("", "1\n"), ("0\n", "0\n1\n"), ("0\n{\"sch", "0\n{\"sch\n1\n")] {
            fs::write(&path, before).unwrap();
            let mut sink = StreamSink::open(&Destination::File(path.clone())).unwrap();
            sink.deliver(b"1\n").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), expected);
        }
    }

    #[test]
    fn after_a_rotation_the_new_file_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.log");
        let mut sink = StreamSink::open(&Destination::File(path.clone())).unwrap();
        sink.deliver(b"1\n").unwrap();
        let rotated = directory.path().join("audit.log.1");
        fs::rename(&path, &rotated).unwrap();
        sink.deliver(b"2\n").unwrap();
        sink.reopen().unwrap();
        sink.deliver(b"3\n").unwrap();
        assert_eq!(fs::read_to_string(rotated).unwrap(), "1\n2\n");
        assert_eq!(fs::read_to_string(path).unwrap(), "3\n");
    }
}
