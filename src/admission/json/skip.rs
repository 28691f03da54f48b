//! Finds the end of a JSON object or array, 64 bytes at a time.
//!
//! The method is that of simdjson's first stage (Langdale and Lemire, "Parsing Gigabytes of JSON per Second"): a bit
//! for each byte of a block, and a prefix sum over the quotes that shows which bytes are inside a string. Then only
//! brackets outside strings are counted, and only those of the container's own kind: in valid JSON the others are
//! balanced, and most blocks of `env` and `managedFields`, which are arrays, have none. In a block without a bracket,
//! only the parity of its quotes is computed.

use wide::u8x16;

const BLOCK: usize = 64;
const LANE: usize = 16;
/// The last of the characters that a string can't hold as they are.
const LAST_CONTROL: u8 = 0x1F;
/// Bits at odd positions, counted from zero.
const ODD: u64 = 0xAAAA_AAAA_AAAA_AAAA;

/// The length of the container whose opening bracket is just before `bytes`, its closing bracket included, or
/// `None` when it has no end.
pub(super) fn container_end(bytes: &[u8], kind: Kind) -> Option<usize> {
    match kind {
        Kind::Object => end_of::<b'{'>(bytes),
        Kind::Array => end_of::<b'['>(bytes),
    }
}

fn end_of<const OPEN: u8>(bytes: &[u8]) -> Option<usize> {
    let mut state = Scanner::<OPEN> {
        depth: 1,
        in_string: 0,
        quotes: u8x16::default(),
        escapes: Escapes::default(),
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

/// How many bytes come before the first quote, backslash or control character.
#[inline]
pub(super) fn plain_length(bytes: &[u8]) -> usize {
    let (lanes, rest) = bytes.as_chunks::<LANE>();
    for (number, lane) in lanes.iter().enumerate() {
        let lane = u8x16::new(*lane);
        let special = lane.simd_eq(u8x16::splat(b'"'))
            | lane.simd_eq(u8x16::splat(b'\\'))
            | lane.min(u8x16::splat(LAST_CONTROL)).simd_eq(lane);
        let found = special.to_bitmask();
        if found != 0 {
            return number * LANE + found.trailing_zeros() as usize;
        }
    }
    let length = rest
        .iter()
        .position(|byte| matches!(byte, b'"' | b'\\' | 0..=LAST_CONTROL));
    bytes.len() - rest.len() + length.unwrap_or(rest.len())
}

/// How many bytes come before the quote that ends a string, whose opening quote is just before `bytes`, or `None` when it has
/// no end. What a backslash escapes is part of the string, whatever it is, and so are control characters.
///
/// Every block costs the same, however many escapes it has: a text of JSON in a string has one for each of its quotes.
pub(super) fn string_length(bytes: &[u8]) -> Option<usize> {
    let mut escapes = Escapes::default();
    let mut end_in = |block: &[u8; BLOCK]| {
        let lanes = Lanes::of(block);
        let quote = lanes.positions(b'"') & !escapes.of(lanes.positions(b'\\'));
        (quote != 0).then(|| quote.trailing_zeros() as usize)
    };
    let (blocks, rest) = bytes.as_chunks::<BLOCK>();
    for (number, block) in blocks.iter().enumerate() {
        if let Some(offset) = end_in(block) {
            return Some(number * BLOCK + offset);
        }
    }
    let mut last = [b' '; BLOCK];
    last.get_mut(..rest.len())?.copy_from_slice(rest);
    end_in(&last).map(|offset| blocks.len() * BLOCK + offset)
}

/// The kind of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Object,
    Array,
}

/// Looks for the end of a container whose opening bracket is `OPEN`.
struct Scanner<const OPEN: u8> {
    /// Brackets that are open.
    depth: usize,
    /// All ones where the last block but the plain ones ended inside a string, else zero.
    in_string: u64,
    /// The quotes of the plain blocks since: whether their number is odd, a bit for each place among 16.
    quotes: u8x16,
    escapes: Escapes,
}

/// One where the previous block ended in a backslash that escapes what follows, else zero.
#[derive(Default)]
struct Escapes(u64);

impl<const OPEN: u8> Scanner<OPEN> {
    /// As far from the opening bracket as a byte can be: `[\]` and `{|}` stand side by side in ASCII.
    const CLOSE: u8 = OPEN + 2;

    #[inline]
    fn end_in(&mut self, block: &[u8; BLOCK]) -> Option<usize> {
        let lanes = Lanes::of(block);
        if self.escapes.0 == 0 && lanes.are_plain(OPEN) {
            self.quotes ^= lanes.odd(b'"');
            return None;
        }
        self.end_in_other(&lanes)
    }

    /// The same for a block with a bracket or a backslash, or one whose first byte is escaped.
    #[inline]
    fn end_in_other(&mut self, lanes: &Lanes) -> Option<usize> {
        if is_odd(std::mem::take(&mut self.quotes).to_bitmask().into()) {
            self.in_string = !self.in_string;
        }
        let quote = lanes.positions(b'"') & !self.escapes.of(lanes.positions(b'\\'));
        if !lanes.have(OPEN, Self::CLOSE) {
            if is_odd(quote) {
                self.in_string = !self.in_string;
            }
            return None;
        }
        let in_string = prefix_xor(quote) ^ self.in_string;
        self.in_string = if in_string >> 63 == 1 { u64::MAX } else { 0 };
        let open = lanes.positions(OPEN) & !in_string;
        let mut close = lanes.positions(Self::CLOSE) & !in_string;
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
}

impl Escapes {
    /// The bytes that a backslash before them escapes: those behind an odd-length run of backslashes.
    #[inline]
    fn of(&mut self, backslash: u64) -> u64 {
        if backslash == 0 {
            return std::mem::take(&mut self.0);
        }
        // Only a backslash that is not itself escaped can escape.
        let potential = backslash & !self.0;
        let maybe_escaped = potential << 1;
        let maybe_escaped_and_odd = maybe_escaped | ODD;
        let even_series_and_odd = maybe_escaped_and_odd.wrapping_sub(potential);
        let escape_and_terminal = even_series_and_odd ^ ODD;
        let escaped = escape_and_terminal ^ (backslash | self.0);
        self.0 = (escape_and_terminal & backslash) >> 63;
        escaped
    }
}

/// A block, as what can be compared in one operation.
struct Lanes([u8x16; BLOCK / LANE]);

impl Lanes {
    #[inline]
    fn of(block: &[u8; BLOCK]) -> Self {
        let mut lanes = [u8x16::default(); BLOCK / LANE];
        let (bytes, _) = block.as_chunks::<LANE>();
        for (lane, bytes) in lanes.iter_mut().zip(bytes) {
            *lane = u8x16::new(*bytes);
        }
        Self(lanes)
    }

    /// One bit for each byte, the first byte's lowest: whether it is that one.
    #[inline]
    fn positions(&self, byte: u8) -> u64 {
        let mut bits = 0;
        for (number, lane) in self.0.iter().enumerate() {
            bits |= u64::from(lane.simd_eq(u8x16::splat(byte)).to_bitmask()) << (number * LANE);
        }
        bits
    }

    /// Whether neither a backslash is there, nor a byte that is at most two behind the opening bracket.
    #[inline]
    fn are_plain(&self, open: u8) -> bool {
        let mut found = u8x16::default();
        for lane in self.0 {
            let behind = lane - u8x16::splat(open);
            found |= behind.min(u8x16::splat(2)).simd_eq(behind);
            // Between the brackets of an array it was found already.
            if !(open..=open + 2).contains(&b'\\') {
                found |= lane.simd_eq(u8x16::splat(b'\\'));
            }
        }
        found.to_bitmask() == 0
    }

    /// For each place among 16, whether a byte is there in an odd number of lanes.
    #[inline]
    fn odd(&self, byte: u8) -> u8x16 {
        let mut odd = u8x16::default();
        for lane in self.0 {
            odd ^= lane.simd_eq(u8x16::splat(byte));
        }
        odd
    }

    /// Whether one of the two bytes is there.
    #[inline]
    fn have(&self, one: u8, other: u8) -> bool {
        let mut found = u8x16::default();
        for lane in self.0 {
            found |= lane.simd_eq(u8x16::splat(one)) | lane.simd_eq(u8x16::splat(other));
        }
        found.to_bitmask() != 0
    }
}

/// Whether the number of bits is odd.
#[inline]
fn is_odd(bits: u64) -> bool {
    bits.count_ones() % 2 == 1
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
    fn reference(bytes: &[u8], kind: Kind) -> Option<usize> {
        let (open, close) = if kind == Kind::Object {
            (b'{', b'}')
        } else {
            (b'[', b']')
        };
        let (mut depth, mut in_string, mut escaped) = (1, false, false);
        for (at, byte) in bytes.iter().enumerate() {
            match byte {
                b'"' | b'\\' if escaped => escaped = false,
                b'\\' => escaped = true,
                _ if std::mem::take(&mut escaped) && in_string => {}
                b'"' => in_string = !in_string,
                _ if in_string => {}
                _ if *byte == open => depth += 1,
                _ if *byte == close => {
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
            for kind in [Kind::Object, Kind::Array] {
                prop_assert_eq!(container_end(text.as_bytes(), kind), reference(text.as_bytes(), kind));
            }
        }

        #[test]
        fn plain_blocks_count_as_single_bytes_do(
            runs in proptest::collection::vec(("[\\[\\]{}|\"\\\\a ]", 1..150_usize), 0..20)
        ) {
            // Most runs are of one character, and longer than a block.
            let text: String = runs.iter().map(|(character, length)| match character.as_str() {
                "a" | " " | "|" => character.repeat(*length),
                rare => rare.repeat(length % 3),
            }).collect();
            for kind in [Kind::Object, Kind::Array] {
                prop_assert_eq!(container_end(text.as_bytes(), kind), reference(text.as_bytes(), kind));
            }
        }

        #[test]
        fn strings_end_where_single_bytes_say(text in "[{}\"\\\\a\u{1}\u{e9}]{0,300}") {
            let mut escaped = false;
            let end = text.bytes().position(|byte| {
                let is_end = byte == b'"' && !escaped;
                escaped = byte == b'\\' && !escaped;
                is_end
            });
            prop_assert_eq!(string_length(text.as_bytes()), end);
        }

        #[test]
        fn a_string_with_escapes_ends_where_it_does(before in 0..200_usize, run in 0..200_usize, after in 0..200_usize) {
            // An even run escapes nothing, an odd one the quote behind it.
            let text = format!("{}{}\"{}\"", " ".repeat(before), "\\".repeat(run), "a".repeat(after));
            let end = before + run + if run % 2 == 0 { 0 } else { 1 + after };
            prop_assert_eq!(string_length(text.as_bytes()), Some(end));
            prop_assert_eq!(string_length(&text.as_bytes()[..end]), None);
        }

        #[test]
        fn runs_of_backslashes_across_blocks(before in 0..200_usize, run in 0..200_usize) {
            let text = format!("\"{}{}\"]\"]}}]", " ".repeat(before), "\\".repeat(run));
            for kind in [Kind::Object, Kind::Array] {
                prop_assert_eq!(container_end(text.as_bytes(), kind), reference(text.as_bytes(), kind));
            }
        }
    }
}
