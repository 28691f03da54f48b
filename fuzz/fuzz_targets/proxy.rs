//! Proxies of the environment and of a kubeconfig.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| pullpass_fuzz_checks::proxy::check(input));
