//! Readers of dataset files. Each takes bytes and the path that its errors name, and never reads more than announced.

pub mod cifar;
pub mod folder;
pub mod idx;

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use crate::{DataError, ImageShape};

/// Opens a file, unpacking it on the way if its first bytes say that it is gzip.
///
/// # Errors
/// [`DataError::Io`] if the file cannot be opened.
pub fn open_plain_or_gzip(path: &Path) -> Result<Box<dyn Read>, DataError> {
    let file = File::open(path).map_err(DataError::io("read", path))?;
    Ok(unpack(file))
}

/// Unpacks gzip, also of several members, and passes on anything else as it is.
///
/// A failure to read the first bytes appears when the result is read.
pub fn unpack<'a>(mut reader: impl Read + 'a) -> Box<dyn Read + 'a> {
    let mut start = [0; 2];
    let got = match read_up_to(&mut reader, &mut start) {
        Ok(got) => got,
        Err(error) => return Box::new(Failed(Some(error))),
    };
    let whole = io::Cursor::new(start).take(got as u64).chain(reader);
    let buffered = BufReader::with_capacity(1 << 16, whole);
    if start == [0x1f, 0x8b] { Box::new(MultiGzDecoder::new(buffered)) } else { Box::new(buffered) }
}

/// Fails once.
struct Failed(Option<io::Error>);

impl Read for Failed {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        self.0.take().map_or(Ok(0), Err)
    }
}

/// Passes bytes on, but fails once there are more than a limit.
pub(crate) struct Bounded<R> {
    inner: R,
    limit: u64,
    left: u64,
}

impl<R: Read> Bounded<R> {
    pub(crate) fn new(inner: R, limit: u64) -> Self {
        Self { inner, limit, left: limit }
    }

    /// The error for a failed read of this reader.
    pub(crate) fn error(path: &Path, limit: u64, source: io::Error) -> DataError {
        if source.kind() == io::ErrorKind::FileTooLarge {
            return DataError::Oversized { path: path.into(), limit };
        }
        damaged(path, source)
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        match self.left.checked_sub(got as u64) {
            Some(left) => self.left = left,
            None => {
                return Err(io::Error::new(
                    io::ErrorKind::FileTooLarge,
                    format!("over {} bytes", self.limit),
                ));
            }
        }
        Ok(got)
    }
}

/// Reads to the end, but fails as soon as there is more than `limit` bytes.
pub(crate) fn read_bounded(reader: &mut dyn Read, path: &Path, limit: u64) -> Result<Vec<u8>, DataError> {
    let mut bytes = Vec::new();
    let got = Bounded::new(reader, limit).read_to_end(&mut bytes);
    got.map_err(|source| Bounded::<&[u8]>::error(path, limit, source))?;
    Ok(bytes)
}

pub(crate) fn damaged(path: &Path, source: io::Error) -> DataError {
    DataError::Damaged { path: path.into(), source }
}

/// Compares an image's (width, height) with those of its dataset.
pub(crate) fn check_size(path: &Path, found: (usize, usize), expected: ImageShape) -> Result<(), DataError> {
    let ImageShape { height, width, .. } = expected;
    if found == (width, height) {
        return Ok(());
    }
    let (found_width, found_height) = found;
    Err(DataError::ImageSize { path: path.into(), found_width, found_height, width, height })
}

fn read_up_to(reader: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(got) => filled += got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
