//! What `perf script` prints: a line with the thread of each sample, then its stack, the innermost function first.

use crate::support::Result;

/// Addresses from here on belong to the kernel, on every 64-bit architecture.
const KERNEL: u64 = 1 << 63;

/// One sample.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sample<'a> {
    /// The name of its thread.
    pub(crate) thread: &'a str,
    /// Its functions, the innermost one first. Those outside the kernel are only as good as the frame pointers, which only the
    /// first one does not need.
    pub(crate) frames: Vec<Frame<'a>>,
}

/// A function in a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// Whether the kernel runs it.
    pub(crate) is_kernel: bool,
    /// Its name, as the linker has it.
    pub(crate) symbol: &'a str,
    /// The file that it is in.
    pub(crate) object: &'a str,
}

/// Reads all samples. Anything else than samples is an error, so that no format is misread.
pub(crate) fn samples(text: &str) -> Result<Vec<Sample<'_>>> {
    let mut samples: Vec<Sample<'_>> = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        if let Some(frame) = line.strip_prefix('\t') {
            let sample = samples.last_mut().ok_or("a stack without a thread")?;
            sample
                .frames
                .push(frame_of(frame).ok_or_else(|| format!("no function: {line}"))?);
        } else {
            samples.push(Sample {
                thread: line.trim(),
                frames: Vec::new(),
            });
        }
    }
    Ok(samples)
}

/// `ADDRESS SYMBOL (FILE)`; a mangled symbol has no spaces.
fn frame_of(line: &str) -> Option<Frame<'_>> {
    let (address, rest) = line.trim().split_once(' ')?;
    let (symbol, object) = rest.split_once(" (")?;
    Some(Frame {
        is_kernel: u64::from_str_radix(address, 16).ok()? >= KERNEL,
        symbol,
        object: object.strip_suffix(')')?,
    })
}
