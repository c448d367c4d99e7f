#![no_main]
use kd_data::{ImageShape, read::{folder, unpack}};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let shape = ImageShape { channels: 3, height: 4, width: 4 };
    let expected = folder::Expected { shape, classes: None, most: 50 };
    let _ = folder::archive(&mut &bytes[..], "fuzz".as_ref(), ["train", "test"], &expected);
    let _ = folder::archive(&mut unpack(bytes), "fuzz".as_ref(), ["train", "test"], &expected);
});
