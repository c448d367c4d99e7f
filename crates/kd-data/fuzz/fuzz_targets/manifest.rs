#![no_main]
use kd_data::Manifest;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let _ = Manifest::parse("fuzz", text);
});
