//! What a Pod names as its image.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| pullpass_fuzz_checks::image_reference::check(input));
