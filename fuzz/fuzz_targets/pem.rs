//! Certificates and keys.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| pullpass_fuzz_checks::pem::check(input));
