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
        "src/base/dns.rs",
        "MAX_SUBDOMAIN: usize = 253;",
        "docs/audit.md",
        "Names are cut at 253 bytes",
    ),
    (
        "src/audit/record.rs",
        "MAX_NAME: usize = MAX_SUBDOMAIN;",
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
        "MAX_HOST: usize = MAX_SUBDOMAIN;",
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
        "src/admission/lookups/mod.rs",
        "WAIT_TIMEOUT: Duration = Duration::from_secs(1);",
        "docs/availability.md",
        "A review waits 1 second at most",
    ),
    (
        "src/admission/lookups/mod.rs",
        "PART_OF_TIMEOUT: u32 = 4;",
        "docs/availability.md",
        "never more than a quarter of the configuration's `timeoutSeconds`",
    ),
    (
        "src/admission/lookups/mod.rs",
        "LIST_INTERVAL: Duration = Duration::from_millis(25);",
        "docs/availability.md",
        "lists the AcrRegistries at most 40 times a second",
    ),
    (
        "src/admission/lookups/mod.rs",
        "INTERVAL_PER_LIST: u64 = 4;",
        "docs/availability.md",
        "no sooner than four times as long",
    ),
    (
        "src/admission/lookups/mod.rs",
        "MAX_LIST_INTERVAL: Duration = Duration::from_millis(750);",
        "docs/availability.md",
        "(750 ms at most)",
    ),
    (
        "src/admission/lookups/mod.rs",
        "READ_INTERVAL: Duration = Duration::from_millis(10);",
        "docs/availability.md",
        "at most 100 namespaces a second",
    ),
    (
        "src/admission/lookups/mod.rs",
        "WAITING_BYTES: usize = 8 << 20;",
        "docs/availability.md",
        "bodies take more than 8 MiB together",
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
        "src/sync/warnings.rs",
        "REPEAT_INTERVAL: Duration = Duration::from_mins(5);",
        "docs/policy.md",
        "written again at most every five minutes",
    ),
    (
        "src/sync/warnings.rs",
        "REPEAT_INTERVAL: Duration = Duration::from_mins(5);",
        "docs/operations.md",
        "at most one every 5 minutes",
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
        "src/sync/secrets/swept/note.rs",
        "MAX_BYTES: usize = 16 * 1024;",
        "docs/architecture.md",
        "about 900 AcrRegistries in 16 KiB",
    ),
    (
        "src/sync/stored.rs",
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
        "src/server/limits.rs",
        "connections: 512,",
        "docs/security.md",
        "| connections | 512.",
    ),
    (
        "src/server/limits.rs",
        "header_timeout: Duration::from_secs(5),",
        "docs/security.md",
        "| TLS handshake, first request | 5 seconds each |",
    ),
    (
        "src/server/limits.rs",
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
        "src/server/webhook.rs",
        "LARGE_BODY: usize = 64 << 10;",
        "docs/security.md",
        "| bodies larger than 64 KiB that are judged concurrently |",
    ),
    (
        "src/server/webhook.rs",
        "LARGE_BODIES: u32 = 4 << 20;",
        "docs/security.md",
        "| 4 MiB in all, or one that is larger.",
    ),
    (
        "tests/memory.rs",
        "MOST_BESIDE_A_BODY: usize = 20;",
        "docs/security.md",
        "What is judged takes up to 20 times its length",
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
        "tests/node/workloads.rs",
        "assert!(missed.is_empty()",
        "docs/limits.md",
        "fails if one Pod was faster than its Secret",
    ),
    (
        "src/admission/written.rs",
        "WRITTEN_INTERVAL: Duration = Duration::from_mins(1);",
        "docs/limits.md",
        "A Pod waits for nothing where its pull secret was written in the minute before",
    ),
    (
        "src/admission/lookups/mod.rs",
        "WAIT_TIMEOUT: Duration = Duration::from_secs(1);",
        "docs/limits.md",
        "The wait ends 1 second after the review arrived",
    ),
    (
        "benches/soak/main.rs",
        "default_value_t = 100_000)]",
        "docs/testing.md",
        "`make soak` creates 100,000 Pods",
    ),
    (
        "benches/soak/main.rs",
        "default_value_t = 20, value_parser",
        "docs/testing.md",
        "After 20 minutes it ends by itself",
    ),
    (
        "benches/soak/main.rs",
        "lag: 100,",
        "docs/testing.md",
        "taken out of its Service after 100 further answers",
    ),
    (
        "tests/availability/soak_short.rs",
        "const PODS: usize = 5_000;",
        "docs/testing.md",
        "is the same with 5,000 Pods",
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
    (
        "src/sync/spellings.rs",
        "SPELLING_INTERVAL: Duration = Duration::from_mins(15);",
        "docs/limits.md",
        "wait 15 minutes, in which pullpass still remembers it",
    ),
    (
        "src/sync/repositories.rs",
        "MAX_REPOSITORIES: usize = 8;",
        "docs/operations.md",
        "the first eight that it sees",
    ),
    (
        "src/server/connections/mod.rs",
        "MANY: usize = 64;",
        "docs/security.md",
        "where no peer has more than 8",
    ),
    (
        "src/server/connections/mod.rs",
        "SPARED: usize = 8;",
        "docs/security.md",
        "the 64 newest are spared for a second",
    ),
    (
        "src/sync/minting/pull_right.rs",
        "QUESTION_INTERVAL: Duration = Duration::from_hours(1);",
        "README.md",
        "ACR is asked about once an hour what a credential may pull",
    ),
    (
        "src/sync/minting/pull_right.rs",
        "NEW_REPOSITORY_INTERVAL: Duration = Duration::from_mins(5);",
        "docs/operations.md",
        "for another repository after 5 minutes at the latest",
    ),
    (
        "src/sync/minting/pull_right.rs",
        "MIN_QUESTION_INTERVAL: Duration = Duration::from_secs(30);",
        "docs/operations.md",
        "half a minute after the last question",
    ),
    (
        "src/sync/repositories.rs",
        "SEEN_TIMEOUT: Duration = Duration::from_hours(2);",
        "docs/operations.md",
        "One that no Pod names for two hours is left out",
    ),
    (
        "src/sync/minting/acceptance.rs",
        "TRIAL_INTERVAL: Duration = Duration::from_hours(1);",
        "docs/operations.md",
        "about once an hour after that",
    ),
    (
        "src/sync/minting/acceptance.rs",
        "TRIAL_INTERVAL: Duration = Duration::from_hours(1);",
        "docs/from-az.md",
        "and every hour after that",
    ),
    (
        "src/sync/minting/refresh.rs",
        "MINT_INTERVAL: Duration = Duration::from_secs(30);",
        "docs/operations.md",
        "within half a minute, the next one waits for its turn",
    ),
    (
        "src/sync/failures.rs",
        "LOG_INTERVAL: Duration = Duration::from_mins(5);",
        "docs/operations.md",
        "logs the same problem of a registry every 5 minutes",
    ),
    (
        "src/sync/stored.rs",
        "EMPTIED_INTERVAL: Duration = Duration::from_mins(6);",
        "docs/architecture.md",
        "is swept again 6 minutes after the leader knew of the change",
    ),
    (
        "src/sync/waiting.rs",
        "WAIT_TIMEOUT: Duration = Duration::from_mins(2);",
        "docs/availability.md",
        "for a review of more than 2 minutes ago",
    ),
    (
        "src/sync/secrets/work.rs",
        "SETTLE_TIMEOUT: Duration = Duration::from_mins(5);",
        "docs/architecture.md",
        "after 5 minutes at the latest",
    ),
    (
        "src/sync/secrets/detach/mod.rs",
        "DETACH_BACKOFF: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_mins(5));",
        "docs/architecture.md",
        "waits longer each time, up to 5 minutes",
    ),
    (
        "src/admission/json/skip.rs",
        "BLOCK: usize = 64;",
        "docs/architecture.md",
        "is skipped 64 bytes at a time",
    ),
    (
        "src/serve/leader/mod.rs",
        "POLL_INTERVAL: Duration = Duration::from_secs(1);",
        "docs/availability.md",
        "looks at the Lease every second",
    ),
    (
        "src/serve/leader/lease.rs",
        "LEASE_DURATION: Duration = Duration::from_secs(15);",
        "docs/architecture.md",
        "after about 15 seconds",
    ),
    (
        "src/server/limits.rs",
        "idle_timeout: Duration::from_mins(2),",
        "docs/availability.md",
        "idle connections are kept for 2 minutes over both versions of HTTP",
    ),
    (
        "src/server/limits.rs",
        "connections: 512,",
        "docs/operations.md",
        "open connections to the webhook's port, at most 512",
    ),
    (
        "src/server/limits.rs",
        "connections: 512,",
        "docs/operations.md",
        "512 connections were open",
    ),
    (
        "src/server/budget/mod.rs",
        "largest: 32 << 20,",
        "docs/operations.md",
        "the body is larger than 32 MiB",
    ),
    (
        "src/server/budget/mod.rs",
        "Duration::from_secs(30),",
        "docs/operations.md",
        "nothing of a body arrived for 5 seconds, or it was not complete after 30",
    ),
    (
        "src/sync/recent_writes.rs",
        "WRITE_RECENT_INTERVAL: Duration = Duration::from_secs(5);",
        "docs/availability.md",
        "more than 5 seconds after the last write in the namespace",
    ),
    (
        "src/sync/failed_pulls/gate.rs",
        "MISSING_BACKOFF: Backoff = Backoff::new(Duration::from_secs(10), MAX_BACKOFF);",
        "docs/security.md",
        "after 10 seconds (no pull secret)",
    ),
    (
        "src/sync/failed_pulls/gate.rs",
        "FAILED_BACKOFF: Backoff = Backoff::new(Duration::from_secs(30), MAX_BACKOFF);",
        "docs/security.md",
        "or 30 seconds (a failed pull) at first",
    ),
    (
        "src/policy/evictions.rs",
        "PER_OWNER: usize = 10;",
        "docs/policy.md",
        "and 10 a minute of one owner",
    ),
    (
        "src/policy/evictions.rs",
        "EVICTION_BACKOFF: Backoff = Backoff::new(Duration::from_mins(10), Duration::from_hours(6));",
        "docs/policy.md",
        "for 10 minutes, then 20, and so on up to 6 hours",
    ),
    (
        "src/api/acr_registry.rs",
        "MAX_REPOSITORIES: usize = 16;",
        "docs/security.md",
        "16 of them at most",
    ),
    (
        "src/api/acr_registry.rs",
        "MAX_REPOSITORIES_LENGTH: usize = 2000;",
        "docs/security.md",
        "2000 characters together at most",
    ),
    (
        "src/azure/acr/mod.rs",
        "MAX_PASSWORD: usize = 6089;",
        "docs/security.md",
        "no password of more than 6,089 characters",
    ),
    (
        "src/check/judge.rs",
        "MAX_SKEW: SignedDuration = SignedDuration::from_mins(5);",
        "docs/check.md",
        "no more than five minutes apart",
    ),
    (
        "src/check/judge.rs",
        "MAX_SKEW: SignedDuration = SignedDuration::from_mins(5);",
        "docs/check.md",
        "the clocks are more than five minutes apart",
    ),
    (
        "src/cli/check/cluster.rs",
        "MAX_EVENTS: usize = 5;",
        "docs/check.md",
        "the latest five",
    ),
    (
        "src/certificates/mod.rs",
        "OVERLAP: SignedDuration = SignedDuration::from_hours(1);",
        "docs/certificates.md",
        "For an hour (`--ca-overlap`) nothing happens",
    ),
    (
        "src/certificates/tests/simulation.rs",
        "LAG: i64 = 19 * 60;",
        "docs/certificates.md",
        "changes that arrive up to 19 minutes late",
    ),
    (
        "tests/help/defaults.rs",
        "(\"serve\", \"--reload-interval\", \"15\")",
        "docs/certificates.md",
        "reads them again every 15 seconds (`--reload-interval`)",
    ),
    (
        "tests/help/defaults.rs",
        "(\"serve\", \"--shutdown-delay\", \"10\")",
        "docs/availability.md",
        "`--shutdown-delay` (10 s)",
    ),
    (
        "tests/help/defaults.rs",
        "(\"serve\", \"--resync-interval\", \"600\")",
        "docs/availability.md",
        "(`--resync-interval`, 10 minutes)",
    ),
    (
        "tests/memory.rs",
        "n\".repeat(7_900_000)",
        "docs/security.md",
        "40 reviews with a namespace of 7.9 MB",
    ),
    (
        "manifests/base/webhook.yaml",
        "timeoutSeconds: 5",
        "docs/availability.md",
        "wait for the timeout of 5 seconds",
    ),
    (
        "manifests/base/deployment.yaml",
        "key: node.kubernetes.io/unreachable operator: Exists effect: NoExecute tolerationSeconds: 30",
        "docs/availability.md",
        "for 30 seconds, where 5 minutes are the default",
    ),
    (
        "manifests/components/cert-manager/certificates.yaml",
        "duration: 2160h renewBefore: 720h",
        "docs/install.md",
        "a certificate for 90 days, renewed 30 days before its end",
    ),
    (
        "manifests/components/enforce/policy.yaml",
        "image[3].size() <= 1024",
        "docs/policy.md",
        "unless more than 1,024 characters follow its first slash",
    ),
    (
        "manifests/components/monitoring/rules.yaml",
        "expr: absent(pullpass_build_info) for: 5m",
        "docs/operations.md",
        "Nobody has seen a replica for five minutes",
    ),
    (
        "manifests/components/monitoring/rules.yaml",
        "expr: sum(pullpass_leader) == 0 for: 5m",
        "docs/operations.md",
        "none has led for five minutes",
    ),
    (
        "manifests/components/monitoring/rules.yaml",
        ") - time() < 1200",
        "docs/operations.md",
        "Less than 20 minutes are left of a credential",
    ),
    (
        "manifests/components/monitoring/rules.yaml",
        ") == 1 for: 10m labels: severity: warning annotations: summary: No credential is minted",
        "docs/operations.md",
        "or none can be made, for ten minutes",
    ),
    (
        "manifests/components/monitoring/rules.yaml",
        ") == 1 for: 15m",
        "docs/operations.md",
        "could not be written in some namespaces for 15 minutes",
    ),
    (
        "manifests/components/monitoring/rules.yaml",
        "< 3 * 86400",
        "docs/operations.md",
        "Less than three days are left of the certificate of a replica",
    ),
    (
        "manifests/components/monitoring/rules.yaml",
        "> 0.25",
        "docs/operations.md",
        "takes more than a quarter of a second",
    ),
    (
        "manifests/components/monitoring/rules.yaml",
        "|memory|slow-body\"}[5m]) ) > 20",
        "docs/operations.md",
        "more than 20 in five minutes",
    ),
    (
        "docs/image.md",
        "| idle memory | 13.6 MiB | | 10.4 MiB |",
        "docs/operations.md",
        "13.6 MiB when idle (10.4 MiB with the image's allocator)",
    ),
    (
        "docs/benchmarks.md",
        "| restarted: resident, peak | | | 37.6, 38.0 MiB |",
        "docs/operations.md",
        "38 MiB with 10,000 namespaces and one registry",
    ),
    (
        "docs/benchmarks.md",
        "for 82 minutes here",
        "docs/architecture.md",
        "that takes 82 minutes",
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
