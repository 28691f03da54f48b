//! What a registry asks for, in `WWW-Authenticate`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| pullpass_fuzz_checks::challenge::check(input));
