#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = heddle_tests::replay::parse::parse(data);
});
