//! Finds where a JSON object or array ends, 64 bytes at a time.
//!
//! The method is the one of simdjson's first stage (Langdale and Lemire, "Parsing Gigabytes of JSON per Second"):
//! a bit for each byte of a block, a prefix sum over the quotes that tells what is inside a string, and then only
//! brackets outside strings are counted.

use wide::u8x16;

const BLOCK: usize = 64;
/// Bits at odd positions, counted from zero.
const ODD: u64 = 0xAAAA_AAAA_AAAA_AAAA;

/// The length of the container whose opening bracket is just before `bytes`, its closing bracket included, or
/// `None` when it has no end. Objects and arrays count alike.
pub(super) fn container_end(bytes: &[u8]) -> Option<usize> {
    let mut state = State {
        depth: 1,
        in_string: 0,
        escaped: 0,
    };
    let (blocks, rest) = bytes.as_chunks::<BLOCK>();
    for (number, block) in blocks.iter().enumerate() {
        if let Some(offset) = state.end_in(block) {
            return Some(number * BLOCK + offset);
        }
    }
    let mut last = [b' '; BLOCK];
    last.get_mut(..rest.len())?.copy_from_slice(rest);
    state.end_in(&last).map(|offset| blocks.len() * BLOCK + offset)
}

struct State {
    /// Brackets that are open.
    depth: usize,
    /// All ones where the previous block ended inside a string, else zero.
    in_string: u64,
    /// One where the previous block ended in a backslash that escapes what follows, else zero.
    escaped: u64,
}

impl State {
    fn end_in(&mut self, block: &[u8; BLOCK]) -> Option<usize> {
        let Bits {
            quote,
            backslash,
            open,
            close,
        } = Bits::of(block);
        let quote = quote & !self.escapes(backslash);
        let in_string = prefix_xor(quote) ^ self.in_string;
        self.in_string = if in_string >> 63 == 1 { u64::MAX } else { 0 };
        let open = open & !in_string;
        let mut close = close & !in_string;
        let closes = close.count_ones() as usize;
        if closes >= self.depth {
            for closed in 1..=closes {
                let at = close.trailing_zeros();
                let opened = (open & ((1 << at) - 1)).count_ones() as usize;
                if self.depth + opened == closed {
                    return Some(at as usize + 1);
                }
                close &= close - 1;
            }
        }
        self.depth = self.depth + open.count_ones() as usize - closes;
        None
    }

    /// The bytes that a backslash before them escapes: those behind an odd-length run of backslashes.
    fn escapes(&mut self, backslash: u64) -> u64 {
        if backslash == 0 {
            return std::mem::take(&mut self.escaped);
        }
        // Only a backslash that is not itself escaped can escape.
        let potential = backslash & !self.escaped;
        let maybe_escaped = potential << 1;
        let maybe_escaped_and_odd = maybe_escaped | ODD;
        let even_series_and_odd = maybe_escaped_and_odd.wrapping_sub(potential);
        let escape_and_terminal = even_series_and_odd ^ ODD;
        let escaped = escape_and_terminal ^ (backslash | self.escaped);
        self.escaped = (escape_and_terminal & backslash) >> 63;
        escaped
    }
}

/// One bit for each byte of a block, the first byte's lowest.
#[derive(Default)]
struct Bits {
    quote: u64,
    backslash: u64,
    open: u64,
    close: u64,
}

impl Bits {
    #[inline]
    fn of(block: &[u8; BLOCK]) -> Self {
        let mut bits = Self::default();
        let (lanes, _) = block.as_chunks::<16>();
        for (number, lane) in lanes.iter().enumerate() {
            let lane = u8x16::new(*lane);
            // `[` and `{`, and `]` and `}`, differ in this one bit.
            let folded = lane | u8x16::splat(0x20);
            let at = |found: u8x16| u64::from(found.to_bitmask()) << (number * 16);
            bits.quote |= at(lane.simd_eq(u8x16::splat(b'"')));
            bits.backslash |= at(lane.simd_eq(u8x16::splat(b'\\')));
            bits.open |= at(folded.simd_eq(u8x16::splat(b'{')));
            bits.close |= at(folded.simd_eq(u8x16::splat(b'}')));
        }
        bits
    }
}

/// Each bit is the parity of the bits up to and including it.
#[inline]
fn prefix_xor(mut bits: u64) -> u64 {
    for shift in [1, 2, 4, 8, 16, 32] {
        bits ^= bits << shift;
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same by the book: one byte at a time. Outside a string, where JSON has no backslash, one hides a quote too.
    fn reference(bytes: &[u8]) -> Option<usize> {
        let (mut depth, mut in_string, mut escaped) = (1, false, false);
        for (at, byte) in bytes.iter().enumerate() {
            match byte {
                b'"' | b'\\' if escaped => escaped = false,
                b'\\' => escaped = true,
                _ if std::mem::take(&mut escaped) && in_string => {}
                b'"' => in_string = !in_string,
                b'{' | b'[' if !in_string => depth += 1,
                b'}' | b']' if !in_string => {
                    depth -= 1;
                    if depth == 0 {
                        return Some(at + 1);
                    }
                }
                _ => {}
            }
        }
        None
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
        #[test]
        fn blocks_find_what_single_bytes_find(text in "[\\[\\]{}\"\\\\a ]{0,300}") {
            prop_assert_eq!(container_end(text.as_bytes()), reference(text.as_bytes()));
        }

        #[test]
        fn runs_of_backslashes_across_blocks(before in 0..200_usize, run in 0..200_usize) {
            let text = format!("\"{}{}\"]\"]]", " ".repeat(before), "\\".repeat(run));
            prop_assert_eq!(container_end(text.as_bytes()), reference(text.as_bytes()));
        }
    }
}
