//! What Entra ID, the managed identity endpoint and a registry answer.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| pullpass_fuzz_checks::answers::check(input));
