//! Checksums of files, as hexadecimal digits.

use std::fmt::Write as _;
use std::io::Read;
use std::path::Path;

use md5::Md5;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::DataError;
use crate::read::Bounded;

/// A checksum that a publisher states: `md5 = "…"` or `sha256 = "…"` in a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Published {
    /// MD5, where that is all there is: it finds damage, not forgery.
    Md5(String),
    /// SHA-256.
    Sha256(String),
}

impl Published {
    /// `md5` or `sha256`.
    pub fn algorithm(&self) -> &'static str {
        match self {
            Self::Md5(_) => "md5",
            Self::Sha256(_) => "sha256",
        }
    }

    /// The hexadecimal digits.
    pub fn digits(&self) -> &str {
        match self {
            Self::Md5(digits) | Self::Sha256(digits) => digits,
        }
    }

    /// The checksum of `sums` that is to be compared with this one.
    pub(crate) fn of<'a>(&self, sums: &'a Sums) -> &'a str {
        match self {
            Self::Md5(_) => &sums.md5,
            Self::Sha256(_) => &sums.sha256,
        }
    }

    /// Whether the digits could be a checksum of their kind.
    pub(crate) fn is_well_formed(&self) -> bool {
        let length = if matches!(self, Self::Md5(_)) { 32 } else { 64 };
        self.digits().len() == length && self.digits().bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
    }
}

/// Both checksums of a stream of bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sums {
    pub md5: String,
    pub sha256: String,
}

/// Passes bytes on and sums them up.
pub(crate) struct Summing<R> {
    inner: R,
    md5: Md5,
    sha256: Sha256,
}

impl<R: Read> Summing<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self { inner, md5: Md5::new(), sha256: Sha256::new() }
    }

    /// The checksums of what was read.
    pub(crate) fn finish(self) -> Sums {
        Sums { md5: hex(&self.md5.finalize()), sha256: hex(&self.sha256.finalize()) }
    }
}

impl<R: Read> Read for Summing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let got = self.inner.read(buffer)?;
        let bytes = buffer.get(..got).unwrap_or_default();
        self.md5.update(bytes);
        self.sha256.update(bytes);
        Ok(got)
    }
}

/// Reads to the end, at most `limit` bytes, and sums up.
pub(crate) fn sums(reader: impl Read, path: &Path, limit: u64) -> Result<Sums, DataError> {
    let mut reader = Summing::new(Bounded::new(reader, limit));
    let mut buffer = vec![0; 1 << 16];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(reader.finish()),
            Err(error) if error.kind() != std::io::ErrorKind::Interrupted => {
                return Err(Bounded::<&[u8]>::error(path, limit, error));
            }
            _ => {}
        }
    }
}

/// SHA-256 of bytes in memory.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut digits, byte| {
        // Writing to a string cannot fail.
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn known_checksums() {
        let found = sums(&b"abc"[..], Path::new("f"), 3).unwrap();
        assert_eq!(found.md5, "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(found.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(sha256(b"abc"), found.sha256);
        assert!(matches!(sums(&b"abc"[..], Path::new("f"), 2), Err(DataError::Oversized { limit: 2, .. })));
    }

    #[test]
    fn digits_of_the_wrong_length_or_alphabet_are_no_checksum() {
        assert!(Published::Md5("0".repeat(32)).is_well_formed());
        assert!(!Published::Md5("0".repeat(31)).is_well_formed());
        assert!(!Published::Sha256("g".repeat(64)).is_well_formed());
    }
}
