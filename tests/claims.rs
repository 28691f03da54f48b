//! Numbers that pages name are those of the code. That the code keeps to its numbers is what other tests show.

use std::error::Error;
use std::fs;
use std::path::Path;

/// A definition in the sources or the manifests, and the words of a page that say the same.
const CLAIMS: &[(&str, &str, &str, &str)] = &[
    (
        "src/audit/record.rs",
        "MAX_LISTED: usize = 100;",
        "docs/audit.md",
        "at most 100 images and 100 violations",
    ),
    (
        "src/audit/record.rs",
        "MAX_NAME: usize = 253;",
        "docs/audit.md",
        "Names are cut at 253 bytes",
    ),
    (
        "src/audit/record.rs",
        "MAX_ITEM: usize = 100;",
        "docs/audit.md",
        "the names of containers and volumes at 100",
    ),
    (
        "src/audit/record.rs",
        "MAX_HOST: usize = 253;",
        "docs/audit.md",
        "at 253 bytes, as are hosts",
    ),
    (
        "src/audit/record.rs",
        "MAX_REFERENCE: usize = 600;",
        "docs/audit.md",
        "references at 600",
    ),
    (
        "src/audit/record.rs",
        "MAX_USER: usize = 1024;",
        "docs/audit.md",
        "`user` and `peer` at 1,024",
    ),
    (
        "src/admission/mod.rs",
        "MAX_ANNOTATED: usize = 20;",
        "docs/audit.md",
        "has 20 at most, then `and N more`",
    ),
    (
        "src/audit/channel.rs",
        "BUFFER: usize = 16 << 20;",
        "docs/audit.md",
        "A buffer of 16 MiB",
    ),
    (
        "src/audit/channel.rs",
        "BUFFER: usize = 16 << 20;",
        "docs/operations.md",
        "16 MiB of audit records",
    ),
    (
        "src/audit/channel.rs",
        "CHUNK: usize = 64 << 10;",
        "docs/audit.md",
        "a batch of up to 64 KiB",
    ),
    (
        "src/audit/log.rs",
        "DRAIN_TIMEOUT: Duration = Duration::from_secs(5);",
        "docs/audit.md",
        "On its end pullpass waits 5 seconds",
    ),
    (
        "src/audit/otlp/retry.rs",
        "BATCH_TIMEOUT: Duration = Duration::from_mins(5);",
        "docs/audit.md",
        "is sent again for 5 minutes",
    ),
    (
        "src/sync/waiting.rs",
        "UNKNOWN_TIMEOUT: Duration = Duration::from_secs(10);",
        "docs/operations.md",
        "did not bring a namespace within 10 seconds",
    ),
    (
        "src/sync/waiting.rs",
        "WAIT_TIMEOUT: Duration = Duration::from_mins(2);",
        "docs/operations.md",
        "could not be written within two minutes",
    ),
    (
        "src/sync/denial_events.rs",
        "REPEAT_INTERVAL: Duration = Duration::from_mins(5);",
        "docs/policy.md",
        "written again at most every five minutes",
    ),
    (
        "src/sync/rescue/mod.rs",
        "EVICTION_INTERVAL: Duration = Duration::from_secs(1);",
        "docs/policy.md",
        "One Pod a second is evicted at most",
    ),
    (
        "src/sync/secrets/mod.rs",
        "SWEPT_A_SECOND: usize = 10;",
        "docs/architecture.md",
        "at most 10 a second and behind all other work",
    ),
    (
        "src/sync/secrets/mod.rs",
        "SWEPT_A_SECOND: usize = 10;",
        "docs/benchmarks.md",
        "deletes at most 10 pull secrets a second",
    ),
    (
        "src/sync/secrets/swept/mod.rs",
        "MAX_BYTES: usize = 16 * 1024;",
        "docs/architecture.md",
        "about 900 AcrRegistries in 16 KiB",
    ),
    (
        "src/sync/secrets/detach/mod.rs",
        "EMPTIED_INTERVAL: Duration = Duration::from_mins(6);",
        "docs/architecture.md",
        "keeps the emptied Secret for 6 minutes",
    ),
    (
        "src/sync/minting/refresh.rs",
        "MINT_INTERVAL: Duration = Duration::from_secs(30);",
        "docs/architecture.md",
        "Two mints of one registry are at least 30 seconds apart",
    ),
    (
        "src/sync/minting/refresh.rs",
        "DEFAULT_FRACTION: f64 = 0.5;",
        "docs/operations.md",
        "at half of its life",
    ),
    (
        "src/kubernetes/client.rs",
        "READ_TIMEOUT: Duration = Duration::from_mins(5);",
        "docs/availability.md",
        "restarted when nothing was read for 5 minutes",
    ),
    (
        "src/serve/leader/lease.rs",
        "RENEWAL_INTERVAL: Duration = Duration::from_secs(4);",
        "docs/availability.md",
        "renews the Lease `pullpass` every 4 seconds",
    ),
    (
        "src/serve/leader/lease.rs",
        "LEASE_DURATION: Duration = Duration::from_secs(15);",
        "docs/availability.md",
        "every 4 seconds, for 15",
    ),
    (
        "src/serve/leader/lease.rs",
        "LEADING_TIMEOUT: Duration = Duration::from_secs(10);",
        "docs/availability.md",
        "could not renew it for 10 seconds",
    ),
    (
        "src/certificates/mod.rs",
        "LEAF_LIFETIME: SignedDuration = SignedDuration::from_hours(90 * 24);",
        "docs/certificates.md",
        "The serving certificate lasts 90 days",
    ),
    (
        "src/certificates/mod.rs",
        "AUTHORITY_LIFETIME: SignedDuration = SignedDuration::from_hours(365 * 24);",
        "docs/certificates.md",
        "the authority a year",
    ),
    (
        "src/certificates/mod.rs",
        "BACKDATED: SignedDuration = SignedDuration::from_hours(1);",
        "docs/certificates.md",
        "Each begins an hour before it is made",
    ),
    (
        "src/certificates/keeper/mod.rs",
        "MAX_CLOCK_INTERVAL: Duration = Duration::from_mins(1);",
        "docs/certificates.md",
        "which is looked at every minute",
    ),
    (
        "src/certificates/keeper/mod.rs",
        "STEP_BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));",
        "docs/certificates.md",
        "after 30 seconds at the latest",
    ),
    (
        "src/admission/drops.rs",
        "LOG_INTERVAL: Duration = Duration::from_mins(1);",
        "docs/operations.md",
        "a warning at most once a minute for each queue",
    ),
    (
        "src/server/refusals.rs",
        "LOG_INTERVAL: Duration = Duration::from_secs(10);",
        "docs/operations.md",
        "at most one line in ten seconds",
    ),
    (
        "src/sync/failures.rs",
        "MAX_WRITE_BACKOFF: Duration = Duration::from_mins(5);",
        "docs/operations.md",
        "after 5 seconds at first and 5 minutes at most",
    ),
    (
        "src/sync/secrets/mod.rs",
        "RETRY_BACKOFF: Duration = Duration::from_secs(5);",
        "docs/operations.md",
        "after 5 seconds at first",
    ),
    (
        "src/admission/review/request.rs",
        "MAX_UID: usize = 64;",
        "docs/security.md",
        "a request id of more than 64 bytes",
    ),
    (
        "src/server/listen.rs",
        "connections: 512,",
        "docs/security.md",
        "| connections | 512.",
    ),
    (
        "src/server/listen.rs",
        "header_timeout: Duration::from_secs(5),",
        "docs/security.md",
        "| TLS handshake, first request | 5 seconds each |",
    ),
    (
        "src/server/listen.rs",
        "idle_timeout: Duration::from_mins(2),",
        "docs/security.md",
        "closed 2 minutes after its last request",
    ),
    (
        "src/server/budget/mod.rs",
        "largest: 32 << 20,",
        "docs/security.md",
        "| body | 32 MiB.",
    ),
    (
        "src/server/budget/mod.rs",
        "Duration::from_secs(5),",
        "docs/security.md",
        "5 seconds without a byte",
    ),
    (
        "src/server/budget/mod.rs",
        "Duration::from_secs(30),",
        "docs/security.md",
        "without a byte, 30 in all",
    ),
    (
        "src/server/budget/mod.rs",
        "small: 256 << 10,",
        "docs/security.md",
        "memory for bodies up to 256 KiB",
    ),
    (
        "src/server/budget/mod.rs",
        "all_small: 32 << 20,",
        "docs/security.md",
        "| memory for bodies up to 256 KiB | 32 MiB in all |",
    ),
    (
        "src/server/budget/mod.rs",
        "all_large: 64 << 20,",
        "docs/security.md",
        "| memory for larger ones | 64 MiB in all |",
    ),
    (
        "src/server/budget/mod.rs",
        "STALL_TIMEOUT: Duration = Duration::from_millis(250);",
        "docs/security.md",
        "has not grown for a quarter of a second",
    ),
    (
        "manifests/base/deployment.yaml",
        "cpu: 50m memory: 64Mi limits: memory: 256Mi",
        "docs/operations.md",
        "requests (50m, 64Mi) are enough for most clusters; the memory limit (256Mi)",
    ),
    (
        "manifests/base/webhook.yaml",
        "timeoutSeconds: 5",
        "docs/operations.md",
        "The API server waits for 5 seconds",
    ),
    (
        "src/policy/index.rs",
        "MAX_INDEX_BYTES: usize = 768 * 1024;",
        "docs/policy.md",
        "The index has room for 768 KiB",
    ),
    (
        "src/policy/index.rs",
        "MAX_INDEX_BYTES: usize = 768 * 1024;",
        "docs/operations.md",
        "The AcrIndex has room for 768 KiB",
    ),
    (
        "src/sync/failed_pulls/gate.rs",
        "FAILED_BACKOFF: Backoff = Backoff::new(Duration::from_secs(30), MAX_BACKOFF);",
        "docs/availability.md",
        "after 30 seconds, 1, 2 and 4 minutes, then every 5 minutes",
    ),
    (
        "src/sync/failed_pulls/gate.rs",
        "MISSING_BACKOFF: Backoff = Backoff::new(Duration::from_secs(10), MAX_BACKOFF);",
        "docs/availability.md",
        "immediately, and after 10, 20, 40 seconds",
    ),
    (
        "src/sync/failed_pulls/gate.rs",
        "FAILED_A_SECOND: u32 = 10;",
        "docs/availability.md",
        "at most 10 pairs a second are written",
    ),
    (
        "src/sync/failed_pulls/gate.rs",
        "LOOK_INTERVAL: Duration = Duration::from_secs(1);",
        "docs/security.md",
        "is read once a second at most",
    ),
    (
        "src/sync/minting/pull_right.rs",
        "QUESTION_BACKOFF: Backoff = Backoff::new(Duration::from_mins(2), QUESTION_INTERVAL);",
        "docs/operations.md",
        "it asks again after 2 minutes at first and an hour at most",
    ),
    (
        "src/sync/recent_writes.rs",
        "WRITE_RECENT_INTERVAL: Duration = Duration::from_secs(5);",
        "docs/architecture.md",
        "unless it wrote the same one within the last 5 seconds",
    ),
];

/// With one space wherever there is white space, since pages are wrapped anywhere.
fn words(path: &str) -> Result<String, Box<dyn Error>> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
        .map_err(|error| format!("{path}: {error}"))?;
    Ok(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[test]
fn numbers_of_the_pages_are_those_of_the_code() -> Result<(), Box<dyn Error>> {
    let mut wrong = Vec::new();
    for (source, definition, page, claim) in CLAIMS {
        for (path, text) in [(source, definition), (page, claim)] {
            if !words(path)?.contains(text) {
                wrong.push(format!(
                    "{path} has no `{text}`: {page} says `{claim}`, {source} `{definition}`"
                ));
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
    Ok(())
}
