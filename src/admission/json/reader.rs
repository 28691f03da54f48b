//! A pull reader over JSON text.

use std::borrow::Cow;

use thiserror::Error;

use super::skip::{Kind, container_end, plain_length, string_length};

/// Why a document could not be read, and where.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("expected {expected} at byte {at}")]
pub struct JsonError {
    expected: &'static str,
    at: usize,
}

/// Reads JSON values in order. Each method reads exactly one value, after which the reader is behind it.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// A reader at the beginning of a document.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Reads an object; `member` is called with each key and must read its value, or skip it. `null` counts as an
    /// object without members, as it does for Kubernetes' own decoder.
    ///
    /// A key is as it was sent, except for its escapes, and need not be UTF-8: it is compared with keys that are.
    #[inline]
    pub fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, &[u8]) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        if self.null()? {
            return Ok(());
        }
        self.expect(b'{', "an object")?;
        if self.next_is(b'}') {
            return Ok(());
        }
        loop {
            let key = self.key()?;
            self.expect(b':', "a colon")?;
            member(self, &key)?;
            if self.next_is(b'}') {
                return Ok(());
            }
            self.expect(b',', "a comma or the object's end")?;
        }
    }

    /// Reads an array; `item` must read one value, or skip it. `null` counts as an empty array.
    #[inline]
    pub fn array(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        if self.null()? {
            return Ok(());
        }
        self.expect(b'[', "an array")?;
        if self.next_is(b']') {
            return Ok(());
        }
        loop {
            item(self)?;
            if self.next_is(b']') {
                return Ok(());
            }
            self.expect(b',', "a comma or the array's end")?;
        }
    }

    #[inline]
    fn key(&mut self) -> Result<Cow<'a, [u8]>, JsonError> {
        self.expect(b'"', "a string")?;
        let start = self.at;
        let rest = self.bytes.get(start..).unwrap_or_default();
        let length = plain_length(rest);
        match (rest.get(..length), rest.get(length)) {
            (Some(key), Some(b'"')) => {
                self.at = start + length + 1;
                Ok(Cow::Borrowed(key))
            }
            (_, Some(b'\\')) => self
                .escaped_string(start)
                .map(|key| Cow::Owned(key.into_owned().into_bytes())),
            _ => Err(JsonError {
                expected: "the string's end",
                at: start,
            }),
        }
    }

    /// Reads a string; it is borrowed when it has no escapes.
    #[inline]
    pub fn string(&mut self) -> Result<Cow<'a, str>, JsonError> {
        self.expect(b'"', "a string")?;
        let start = self.at;
        let rest = self.bytes.get(start..).unwrap_or_default();
        let length = plain_length(rest);
        match rest.get(length) {
            Some(b'"') => {
                let text = rest.get(..length).and_then(|text| std::str::from_utf8(text).ok());
                self.at = start + length + 1;
                text.map(Cow::Borrowed).ok_or(JsonError {
                    expected: "UTF-8",
                    at: start,
                })
            }
            Some(b'\\') => self.escaped_string(start),
            _ => Err(JsonError {
                expected: "the string's end",
                at: start,
            }),
        }
    }

    /// A string with escapes, from its first byte behind the opening quote: rare, and left to `serde_json`.
    #[cold]
    fn escaped_string(&mut self, start: usize) -> Result<Cow<'a, str>, JsonError> {
        self.at = start;
        self.skip_string()?;
        start
            .checked_sub(1)
            .and_then(|quote| self.bytes.get(quote..self.at))
            .and_then(|text| serde_json::from_slice::<String>(text).ok())
            .map(Cow::Owned)
            .ok_or(JsonError {
                expected: "a string",
                at: start,
            })
    }

    /// Reads a string or `null`.
    #[inline]
    pub fn optional_string(&mut self) -> Result<Option<Cow<'a, str>>, JsonError> {
        if self.null()? {
            Ok(None)
        } else {
            self.string().map(Some)
        }
    }

    /// Reads `true`, `false` or `null`, which counts as `false`.
    pub fn bool(&mut self) -> Result<bool, JsonError> {
        if self.word(b"true") {
            Ok(true)
        } else if self.word(b"false") || self.word(b"null") {
            Ok(false)
        } else {
            Err(self.error("true or false"))
        }
    }

    /// Reads any value and forgets it.
    #[inline]
    pub fn skip(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            Some(bracket @ (b'{' | b'[')) => {
                self.at += 1;
                let rest = self.bytes.get(self.at..).unwrap_or_default();
                let kind = if bracket == b'{' {
                    Kind::Object
                } else {
                    Kind::Array
                };
                let length =
                    container_end(rest, kind).ok_or_else(|| self.error("the end of an object or array"))?;
                self.at += length;
                Ok(())
            }
            Some(b'"') => {
                self.at += 1;
                self.skip_string()
            }
            Some(b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => {
                let rest = self.bytes.get(self.at..).unwrap_or_default();
                let length = rest
                    .iter()
                    .position(|byte| !matches!(byte, b'-' | b'+' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'E'))
                    .unwrap_or(rest.len());
                self.at += length;
                Ok(())
            }
            _ => Err(self.error("a value")),
        }
    }

    /// Whether nothing but white space is left.
    pub fn at_end(&mut self) -> bool {
        self.peek().is_none()
    }

    /// The position of the reader: behind the white space, at the next value's first byte.
    pub fn position(&mut self) -> usize {
        self.peek();
        self.at
    }

    /// Goes on behind a string's opening quote until behind its closing one. Most strings are short and have no escape; one
    /// that has some may have thousands. What it holds is not looked at.
    fn skip_string(&mut self) -> Result<(), JsonError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let plain = plain_length(rest);
        let length = match rest.get(plain) {
            Some(b'"') => Some(plain),
            Some(_) => string_length(rest.get(plain..).unwrap_or_default()).map(|more| plain + more),
            None => None,
        };
        let Some(length) = length else {
            self.at = self.bytes.len();
            return Err(self.error("the string's end"));
        };
        self.at += length + 1;
        Ok(())
    }

    #[inline]
    fn peek(&mut self) -> Option<u8> {
        loop {
            match self.bytes.get(self.at) {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                other => return other.copied(),
            }
        }
    }

    #[inline]
    fn next_is(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    #[inline]
    fn expect(&mut self, byte: u8, expected: &'static str) -> Result<(), JsonError> {
        if self.next_is(byte) {
            Ok(())
        } else {
            Err(self.error(expected))
        }
    }

    /// Reads `null` if that is the next value, and says whether it was.
    #[inline]
    pub fn null(&mut self) -> Result<bool, JsonError> {
        match self.peek() {
            Some(b'n') if self.word(b"null") => Ok(true),
            Some(b'n') => Err(self.error("a value")),
            _ => Ok(false),
        }
    }

    fn word(&mut self, word: &[u8]) -> bool {
        self.peek();
        let found = self
            .bytes
            .get(self.at..)
            .is_some_and(|rest| rest.starts_with(word));
        self.at += if found { word.len() } else { 0 };
        found
    }

    fn error(&self, expected: &'static str) -> JsonError {
        JsonError {
            expected,
            at: self.at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    /// Builds the whole value through the reader, so that it can be held against `serde_json`.
    fn read(reader: &mut Reader<'_>) -> Result<Value, JsonError> {
        match reader.peek() {
            Some(b'{') => {
                let mut members = serde_json::Map::new();
                reader.object(|reader, key| {
                    members.insert(String::from_utf8_lossy(key).into_owned(), read(reader)?);
                    Ok(())
                })?;
                Ok(Value::Object(members))
            }
            Some(b'[') => {
                let mut items = Vec::new();
                reader.array(|reader| {
                    items.push(read(reader)?);
                    Ok(())
                })?;
                Ok(Value::Array(items))
            }
            Some(b'"') => reader.string().map(|text| Value::String(text.into_owned())),
            Some(b'n') => reader.null().map(|_| Value::Null),
            _ => reader.bool().map(Value::Bool),
        }
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            "\\PC{0,20}".prop_map(Value::String),
            "[\"\\\\\n\u{1}\u{1f600}{}\\[\\]:,]{0,20}".prop_map(Value::String),
        ];
        leaf.prop_recursive(5, 60, 8, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..8).prop_map(Value::Array),
                proptest::collection::vec(("\\PC{0,8}", inner), 0..8)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_reads_what_serde_json_writes(value in json(), pretty in any::<bool>()) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            let mut reader = Reader::new(text.as_bytes());
            prop_assert_eq!(read(&mut reader).unwrap(), value);
            prop_assert!(reader.at_end());
            let mut reader = Reader::new(text.as_bytes());
            reader.skip().unwrap();
            prop_assert!(reader.at_end());
        }

        #[test]
        fn a_document_cut_short_is_an_error(value in json(), cut in any::<proptest::sample::Index>()) {
            let text = Value::Array(vec![value]).to_string();
            let cut = cut.index(text.len());
            prop_assert!(read(&mut Reader::new(&text.as_bytes()[..cut])).is_err());
            prop_assert!(Reader::new(&text.as_bytes()[..cut]).skip().is_err());
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&mut Reader::new(&bytes));
            let _ = Reader::new(&bytes).skip();
        }
    }

    #[test]
    fn depth_costs_no_stack() {
        let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        let mut reader = Reader::new(deep.as_bytes());
        reader.skip().unwrap();
        assert!(reader.at_end());
    }

    #[test]
    fn a_position_is_that_of_the_next_value() {
        let mut reader = Reader::new(b"  [ 1 , \"a\" ] ");
        assert_eq!(reader.position(), 2);
        let mut positions = Vec::new();
        reader
            .array(|reader| {
                positions.push(reader.position());
                reader.skip()
            })
            .unwrap();
        assert_eq!(positions, [4, 8]);
    }

    #[test]
    fn a_word_that_begins_as_null_is_no_value() {
        assert!(Reader::new(b" null").null().unwrap());
        assert!(!Reader::new(b"[]").null().unwrap());
        assert!(Reader::new(b"nul").null().is_err());
    }

    #[test]
    fn errors_say_what_and_where() {
        let error = Reader::new(b"{\"a\" 1}")
            .object(|reader, _| reader.skip())
            .unwrap_err();
        assert_eq!(error.to_string(), "expected a colon at byte 5");
        assert!(Reader::new(b"\"a\nb\"").string().is_err());
        assert!(Reader::new(b"\"\xff\"").string().is_err());
        assert!(Reader::new(b"\"\\ud800\"").string().is_err());
        assert!(
            Reader::new(b"{\"\\ud800\": 1}")
                .object(|reader, _| reader.skip())
                .is_err()
        );
    }

    #[test]
    fn a_key_is_compared_without_its_escapes() {
        let mut keys = Vec::new();
        let text = b"{\"k\\u0069nd\": 1, \"kind\": 2, \"\xff\": 3}";
        Reader::new(text)
            .object(|reader, key| {
                keys.push(key.to_vec());
                reader.skip()
            })
            .unwrap();
        assert_eq!(keys, [&b"kind"[..], b"kind", b"\xff"]);
    }
}
