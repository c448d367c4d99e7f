//! The binary version of CIFAR-10 and CIFAR-100 (Krizhevsky, <https://www.cs.toronto.edu/~kriz/cifar.html>).
//!
//! ```text
//! CIFAR-10:  label, 3 x 32 x 32 pixels               one byte each, planar, no header
//! CIFAR-100: coarse label, fine label, pixels
//! ```

use std::io::Read;
use std::path::Path;

use super::read_bounded;
use crate::{DataError, ImageShape};

/// Records of one binary file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// The last label byte of each record: the class, or the fine class of CIFAR-100.
    pub labels: Vec<u32>,
    /// Planar pixels, record after record.
    pub pixels: Vec<u8>,
}

/// What a binary file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Bytes of labels before the pixels: 1 for CIFAR-10, 2 for CIFAR-100. The last one is the class.
    pub label_bytes: usize,
    /// Size of an image.
    pub shape: ImageShape,
    /// Number of classes.
    pub classes: usize,
    /// Most records a file may hold.
    pub most: usize,
}

impl Layout {
    fn record(&self) -> usize {
        self.label_bytes.saturating_add(self.shape.volume()).max(1)
    }
}

/// Reads the records of a file to its end; `path` is for messages.
///
/// # Errors
/// [`DataError::Truncated`] if the last record is not whole, [`DataError::Label`], [`DataError::Oversized`] after
/// `layout.most` records, [`DataError::Damaged`].
pub fn records(reader: &mut dyn Read, path: &Path, layout: Layout) -> Result<Records, DataError> {
    let record = layout.record();
    let limit = (record as u64).saturating_mul(layout.most as u64);
    let bytes = read_bounded(reader, path, limit)?;
    if bytes.len() % record != 0 {
        let whole = bytes.len().div_ceil(record) as u64 * record as u64;
        return Err(DataError::Truncated { path: path.into(), expected: whole, found: bytes.len() as u64 });
    }
    let mut records = Records { labels: Vec::new(), pixels: Vec::with_capacity(bytes.len()) };
    for (index, record) in bytes.chunks_exact(record).enumerate() {
        let (labels, pixels) = record.split_at(layout.label_bytes);
        let label = labels.last().copied().map_or(0, u32::from);
        if label as usize >= layout.classes {
            return Err(DataError::Label { path: path.into(), index, label, classes: layout.classes });
        }
        records.labels.push(label);
        records.pixels.extend_from_slice(pixels);
    }
    Ok(records)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TINY: Layout = Layout {
        label_bytes: 2,
        shape: ImageShape { channels: 3, height: 1, width: 1 },
        classes: 4,
        most: 3,
    };

    fn read(bytes: &[u8]) -> Result<Records, DataError> {
        records(&mut &bytes[..], Path::new("batch.bin"), TINY)
    }

    #[test]
    fn the_last_label_byte_is_the_class() {
        let found = read(&[9, 1, 10, 11, 12, 9, 3, 20, 21, 22]).unwrap();
        assert_eq!(found, Records { labels: vec![1, 3], pixels: vec![10, 11, 12, 20, 21, 22] });
    }

    #[test]
    fn malformed_files_are_refused_with_path_and_value() {
        let text = |bytes: &[u8]| read(bytes).unwrap_err().to_string();
        assert_eq!(
            text(&[0, 1, 2, 3, 4, 0, 1]),
            "batch.bin: is cut short, 10 bytes were expected and 7 found"
        );
        assert_eq!(
            text(&[0, 0, 2, 3, 4, 0, 4, 1, 1, 1]),
            "batch.bin: sample 1 has label 4, but labels go from 0 to 3"
        );
        assert!(text(&[0; 20]).starts_with("batch.bin: holds more than the 15 bytes"));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..40), label_bytes in 0usize..3, classes in 0usize..300) {
            let layout = Layout { label_bytes, classes, ..TINY };
            if let Ok(found) = records(&mut &bytes[..], Path::new("f"), layout) {
                prop_assert_eq!(found.pixels.len(), 3 * found.labels.len());
            }
        }
    }
}
