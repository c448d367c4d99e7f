#![no_main]
use kd_data::{ImageShape, read::cifar};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let shape = ImageShape { channels: 3, height: 2, width: 2 };
    let layout = cifar::Layout { label_bytes: 2, shape, classes: 100, most: 50 };
    let _ = cifar::records(&mut &bytes[..], "fuzz".as_ref(), layout);
});
