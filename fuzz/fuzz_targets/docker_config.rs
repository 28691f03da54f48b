//! What a pull secret holds, and the Secret that a minted credential lies in.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| pullpass_fuzz_checks::docker_config::check(input));
