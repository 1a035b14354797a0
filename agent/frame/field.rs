//! The header fields of a frame that a user may set.

use std::fmt;

/// A header field: 1 to 128 printable ASCII characters without a blank (RFC 5424 section 6, PRINTUSASCII).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field(String);

impl Field {
    /// Longest field accepted, in bytes: PROCID's maximum (RFC 5424 section 6). Three of them leave less of a frame to
    /// the message: see [`super::Encoder::max_message_len`].
    pub const MAX: usize = 128;

    /// Takes `text` as it is.
    ///
    /// # Errors
    /// [`FieldError`] when it is empty, too long or holds anything but printable ASCII.
    pub fn new(text: &str) -> Result<Self, FieldError> {
        if text.is_empty() {
            return Err(FieldError::Empty);
        }
        if text.len() > Self::MAX {
            return Err(FieldError::Long { len: text.len() });
        }
        if let Some(at) = text.bytes().position(|b| !b.is_ascii_graphic()) {
            return Err(FieldError::Character { at });
        }
        Ok(Self(text.to_owned()))
    }

    /// Makes a field out of any text: what a field cannot hold becomes `_`, the rest is cut at the limit.
    /// For names that are given to us (`$DYNO`), where refusing would cost the user more than a changed letter.
    pub fn coerce(text: &str) -> Self {
        let mut kept: String =
            text.chars().map(|c| if c.is_ascii_graphic() { c } else { '_' }).take(Self::MAX).collect();
        if kept.is_empty() {
            kept.push('-');
        }
        Self(kept)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text cannot be a header field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FieldError {
    /// A character at byte `at` is not printable ASCII.
    Character {
        /// Byte offset in the text.
        at: usize,
    },
    /// There is no text.
    Empty,
    /// The text has `len` bytes.
    Long {
        /// Bytes of the text.
        len: usize,
    },
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Character { at } => write!(f, "byte {at} is not a printable ASCII character"),
            Self::Empty => f.write_str("it is empty"),
            Self::Long { len } => write!(f, "{len} bytes, at most {} are allowed", Field::MAX),
        }
    }
}

impl std::error::Error for FieldError {}
