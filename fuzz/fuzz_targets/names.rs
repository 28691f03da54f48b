//! Login servers and resource IDs.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| pullpass_fuzz_checks::names::check(input));
