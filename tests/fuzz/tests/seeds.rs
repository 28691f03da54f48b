//! Every seed of every fuzz target, and random input, on the stable toolchain.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::{Path, PathBuf};

use proptest::collection::vec;
use proptest::prelude::*;
use pullpass_fuzz_checks::{TARGETS, generate, review};
use serde_json::json;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

fn names_in(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let directory = fuzz().join("seeds").join(target);
    let read = |name: String| {
        let content = fs::read(directory.join(&name)).unwrap();
        (name, content)
    };
    names_in(&directory).into_iter().map(read).collect()
}

/// What fails becomes a seed, not a file beside the tests.
fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

#[test]
fn every_target_has_a_program_and_seeds() {
    let targets: Vec<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let programs: Vec<_> = targets.iter().map(|name| format!("{name}.rs")).collect();
    assert_eq!(names_in(&fuzz().join("fuzz_targets")), programs);
    assert_eq!(names_in(&fuzz().join("seeds")), targets);
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    for name in &targets {
        assert!(manifest.contains(&format!("name = \"{name}\"\n")), "{name}");
        let program = fs::read_to_string(fuzz().join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(program.contains(&format!("{name}::check(input)")), "{name}");
    }
}

#[test]
fn every_seed_passes() {
    for (target, check) in TARGETS {
        let seeds = seeds(target);
        assert!(!seeds.is_empty(), "{target}");
        for (_, seed) in seeds {
            check(&seed);
        }
    }
}

#[test]
fn reviews_among_the_seeds_are_held_against_the_oracle() {
    for (name, seed) in seeds("review") {
        assert_eq!(review::holds(&seed), !name.starts_with("no-"), "{name}");
    }
}

/// What the rules say depends on the text of a review, so that some of each kind are denied.
#[test]
fn labelled_and_changed_pods_are_held_against_the_oracle() {
    let pod = |label: &str, images: &[&str]| {
        let containers: Vec<_> = images
            .iter()
            .map(|image| json!({"name": "c", "image": image}))
            .collect();
        json!({
            "metadata": {"labels": {"pullpass.dev/inject": label}},
            "spec": {"containers": containers},
        })
    };
    let (known, strange) = ("nginx", "strangeregistry.azurecr.io/app");
    for (number, (operation, sub_resource, label, old)) in (0..64).flat_map(|number| {
        [
            ("CREATE", "", "disabled", None),
            ("UPDATE", "", "", Some(known)),
            ("UPDATE", "", "disabled", Some(known)),
            ("UPDATE", "", "", Some(strange)),
            ("UPDATE", "ephemeralcontainers", "", Some(known)),
        ]
        .map(|kind| (number, kind))
    }) {
        let review = json!({
            "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
            "request": {
                "uid": format!("u-{number}"), "kind": {"group": "", "version": "v1", "kind": "Pod"},
                "operation": operation, "subResource": sub_resource, "namespace": "enabled",
                "userInfo": {"username": "jane"}, "dryRun": false,
                "object": pod(label, &[known, strange]), "oldObject": old.map(|old| pod(label, &[old])),
            },
        });
        assert!(review::holds(review.to_string().as_bytes()), "{review}");
        review::check_body(review.to_string().as_bytes());
    }
}

#[test]
fn most_generated_reviews_are_held_against_the_oracle() {
    let mut held = 0;
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..500 {
        let bytes: Vec<u8> = (0..400)
            .map(|_| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random.to_be_bytes()[0]
            })
            .collect();
        held += usize::from(review::holds(generate::review(&bytes).as_bytes()));
    }
    assert!(held > 150, "{held} of 500");
}

#[test]
fn the_plainest_generated_review_is_one() {
    assert!(review::holds(generate::review(&[]).as_bytes()));
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn generated_reviews_pass(bytes in vec(any::<u8>(), 0..600)) {
        review::check_body(generate::review(&bytes).as_bytes());
    }

    #[test]
    fn spoilt_reviews_pass(
        bytes in vec(any::<u8>(), 0..300),
        spoilt in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut body = generate::review(&bytes).into_bytes();
        for (at, byte) in spoilt {
            let at = at.index(body.len());
            body[at] = byte;
        }
        review::check_body(&body);
        review::check_body(&body[..cut.index(body.len())]);
    }
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn random_input_passes(input in vec(any::<u8>(), 0..200), text in "\\PC{0,60}(\n\\PC{0,60}){0,3}") {
        for (_, check) in TARGETS {
            check(&input);
            check(text.as_bytes());
        }
    }

    #[test]
    fn spoilt_seeds_pass(
        which in any::<prop::sample::Index>(),
        spoilt in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        for (target, check) in TARGETS {
            let seeds = seeds(target);
            let mut input = seeds[which.index(seeds.len())].1.clone();
            for (at, byte) in &spoilt {
                if !input.is_empty() {
                    let at = at.index(input.len());
                    input[at] = *byte;
                }
            }
            check(&input);
        }
    }
}
