//! Text in the encodings in which people's files are: UTF-8 with and without a byte order mark, and UTF-16, which
//! PowerShell writes.

use thiserror::Error;

/// Why bytes are no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EncodingError {
    /// They are not UTF-8, and have no mark of UTF-16.
    #[error("it is not text in UTF-8: save it as UTF-8, in PowerShell with `Out-File -Encoding utf8`")]
    Utf8,
    /// They begin with the mark of UTF-16, and are not UTF-16.
    #[error("it begins with the byte order mark of UTF-16 and is not UTF-16: save it as UTF-8")]
    Utf16,
    /// They are ASN.1, as certificates and keys are in binary form.
    #[error(
        "it is binary, a PFX (PKCS #12) or DER file, and not text: convert it to PEM with `openssl pkcs12 -in FILE -out \
         certificate.pem -nodes`"
    )]
    Binary,
    /// There is a NUL character, as in UTF-16 without a byte order mark and in binary files.
    #[error(
        "it holds NUL characters: it is UTF-16 without a byte order mark, or no text: save it as UTF-8, in PowerShell \
         with `Out-File -Encoding utf8`"
    )]
    Nul,
}

/// A sequence with a length of one to four bytes, in ASN.1's distinguished encoding. It is no UTF-8.
fn is_der(bytes: &[u8]) -> bool {
    matches!(bytes, [0x30, 0x80..=0x84, ..])
}

/// Reads text, without a byte order mark. The text is allocated once, so that a secret leaves no copies behind.
pub fn decode(bytes: &[u8]) -> Result<String, EncodingError> {
    let text = match bytes {
        [0xef, 0xbb, 0xbf, rest @ ..] => utf8(rest)?,
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes)?,
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes)?,
        _ if is_der(bytes) => return Err(EncodingError::Binary),
        _ => utf8(bytes)?,
    };
    if text.contains('\0') {
        return Err(EncodingError::Nul);
    }
    Ok(text)
}

fn utf8(bytes: &[u8]) -> Result<String, EncodingError> {
    std::str::from_utf8(bytes)
        .map(str::to_owned)
        .map_err(|_| EncodingError::Utf8)
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, EncodingError> {
    let (units, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(EncodingError::Utf16);
    }
    // A unit of two bytes takes three bytes of UTF-8 at most.
    let mut text = String::with_capacity(units.len().saturating_mul(3));
    for character in char::decode_utf16(units.iter().copied().map(unit)) {
        text.push(character.map_err(|_| EncodingError::Utf16)?);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16_of(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(bytes).collect()
    }

    #[test]
    fn text_is_read_in_every_encoding() {
        let text = "hunter2 \u{e4}\u{1f512}\r\n";
        let marked = format!("\u{feff}{text}");
        for bytes in [
            text.as_bytes().to_vec(),
            marked.as_bytes().to_vec(),
            utf16_of(&marked, u16::to_le_bytes),
            utf16_of(&marked, u16::to_be_bytes),
        ] {
            assert_eq!(decode(&bytes).as_deref(), Ok(text), "{bytes:x?}");
        }
        assert_eq!(decode(b"").as_deref(), Ok(""));
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        for (bytes, error) in [
            (utf16_of("hunter2", u16::to_le_bytes), EncodingError::Nul),
            (vec![0xff, 0xfe, b'a'], EncodingError::Utf16),
            (vec![0xff, 0xfe, 0x00, 0xd8], EncodingError::Utf16),
            (vec![b'a', 0xe4], EncodingError::Utf8),
            (vec![0x30, 0x82, 0x00, 0x01], EncodingError::Binary),
        ] {
            assert_eq!(decode(&bytes), Err(error), "{bytes:x?}");
        }
    }
}
