//! An AdmissionReview, from its bytes to the patched Pod.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| pullpass_fuzz_checks::review::check(input));
