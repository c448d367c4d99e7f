#![no_main]
use kd_data::read::idx;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = idx::images(&mut &bytes[..], "fuzz".as_ref(), None);
    let _ = idx::labels(&mut &bytes[..], "fuzz".as_ref(), None);
});
