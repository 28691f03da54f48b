//! Which part of a review's work a sample belongs to: the tables, and how a function is looked up in them.

use rustc_demangle::demangle;
use serde::Serialize;

use super::samples::{Frame, Sample};

/// A part of the work on a review.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Part {
    Reading,
    Deciding,
    Answer,
    Audit,
    Serializing,
    Metrics,
    Limits,
    Hashing,
    Collections,
    Memory,
    Allocator,
    Clocks,
    Routing,
    Http,
    Tls,
    Tracing,
    Runtime,
    Sending,
    Receiving,
    Polling,
    Waking,
    AuditWriter,
    Faults,
    Interrupts,
    KernelEntry,
    HiddenKernel,
}

impl Part {
    /// What the table calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Reading => "reading the review",
            Self::Deciding => "deciding: rules, registries, references of images",
            Self::Answer => "the answer and its patch",
            Self::Audit => "the audit record: serializing and queueing it",
            Self::Serializing => "JSON of the audit record and the answer: shared code",
            Self::Metrics => "metrics",
            Self::Limits => "limits of each connection, and the queue of reviews",
            Self::Hashing => "hash maps, and their SipHash",
            Self::Collections => "vectors, iterators and dropping: shared code",
            Self::Memory => "copying and comparing memory",
            Self::Allocator => "the allocator",
            Self::Clocks => "reading the clock",
            Self::Routing => "axum, tower",
            Self::Http => "HTTP/2 and HTTP",
            Self::Tls => "TLS",
            Self::Tracing => "spans and events of tracing",
            Self::Runtime => "tokio",
            Self::Sending => "the kernel: sending",
            Self::Receiving => "the kernel: receiving",
            Self::Polling => "the kernel: waiting for sockets",
            Self::Waking => "the kernel: parking and waking threads",
            Self::AuditWriter => "the thread that writes the audit log",
            Self::Faults => "the kernel: page faults and mappings",
            Self::Interrupts => "the kernel: interrupts and preemption",
            Self::KernelEntry => "the kernel: entering and leaving it",
            Self::HiddenKernel => "the kernel, which hides its symbols",
        }
    }
}

/// Threads with names that begin so write the audit log.
const AUDIT_THREAD: &str = "audit-";

/// Functions outside the kernel by the path that they begin with, after the punctuation of generic types. The longest prefix wins.
/// Containers and pointers are not here, so that what they hold decides.
const FUNCTIONS: &[(Part, &[&str])] = &[
    (
        Part::Reading,
        &[
            "pullpass::admission::json",
            "pullpass::admission::review::request",
            "pullpass::policy::request",
            "memchr",
            "wide",
        ],
    ),
    (
        Part::Deciding,
        &[
            "pullpass::admission",
            "pullpass::policy",
            "pullpass::registry",
            "pullpass::view",
            "pullpass::api",
            "pullpass::base::few",
            "pullpass::base::shared_map",
            "immutable_chunkmap",
            "arc_swap",
        ],
    ),
    (
        Part::Answer,
        &[
            "pullpass::admission::review::response",
            "pullpass::admission::patch",
            "pullpass::admission::encode",
            "base64",
        ],
    ),
    (Part::Audit, &["pullpass::audit", "jiff"]),
    (
        Part::Metrics,
        &[
            "pullpass::metrics",
            "prometheus_client",
            "parking_lot",
            "parking_lot_core",
        ],
    ),
    (Part::Limits, &["pullpass::server", "pullpass::base"]),
    (
        Part::Routing,
        &[
            "axum",
            "axum_core",
            "tower",
            "tower_layer",
            "tower_service",
            "matchit",
        ],
    ),
    (
        Part::Http,
        &[
            "h2",
            "hyper",
            "hyper_util",
            "http",
            "http_body",
            "http_body_util",
            "httpdate",
            "httparse",
            "bytes",
            "slab",
            "indexmap",
            "atomic_waker",
        ],
    ),
    (Part::Tls, &["rustls", "tokio_rustls", "ring", "ring_core"]),
    (Part::Tracing, &["tracing", "tracing_core", "tracing_subscriber"]),
    (Part::Runtime, &["tokio", "tokio_util", "mio"]),
];

/// Functions of libraries that all parts use, where nothing in the name says for whom: looked up after [`FUNCTIONS`]. The path of a
/// review uses some of them for one purpose only.
const SHARED: &[(Part, &[&str])] = &[
    (Part::Reading, &["core::str::converts"]),
    (
        Part::Deciding,
        &["core::str", "core::slice::memchr", "alloc::collections::btree"],
    ),
    (Part::Answer, &["alloc::str::join_generic_copy"]),
    (
        Part::Serializing,
        &[
            "serde_json",
            "serde",
            "serde_core",
            "core::fmt",
            "alloc::fmt",
            "itoa",
            "zmij",
            "ryu",
        ],
    ),
    (Part::Hashing, &["core::hash", "std::hash", "hashbrown"]),
    (Part::Collections, &["core", "alloc", "std"]),
    (Part::Allocator, &["alloc::alloc", "alloc::raw_vec", "__rustc"]),
    (
        Part::Clocks,
        &[
            "std::time",
            "std::sys::time",
            "std::sys::pal::unix::time",
            "core::time",
        ],
    ),
    (
        Part::Runtime,
        &[
            "std::sync",
            "std::sys::sync",
            "std::thread",
            "std::io",
            "std::net",
            "std::sys",
            "core::future",
            "futures",
            "futures_util",
            "futures_core",
        ],
    ),
];

/// Functions of the C library, and others without a path, by the beginning of their names behind underscores.
const C_FUNCTIONS: &[(Part, &[&str])] = &[
    (
        Part::Allocator,
        &[
            "malloc",
            "calloc",
            "realloc",
            "free",
            "cfree",
            "int_malloc",
            "int_free",
            "int_realloc",
            "libc_malloc",
            "libc_calloc",
            "libc_realloc",
            "libc_free",
            "unlink_chunk",
            "tcache",
            "sysmalloc",
            "systrim",
            "mi_",
            "rust_alloc",
            "rust_dealloc",
            "rust_realloc",
            "rdl_",
        ],
    ),
    (Part::Memory, &["mem", "bcmp", "str"]),
    (Part::Clocks, &["clock_gettime", "vdso_clock_gettime"]),
    // For the moving averages of its scheduler.
    (Part::Runtime, &["ieee754_pow", "pow"]),
    (Part::Sending, &["send", "libc_send", "writev"]),
    (Part::Receiving, &["recv", "libc_recv", "readv"]),
    (Part::Polling, &["epoll"]),
    (
        Part::Waking,
        &["syscall", "write", "libc_write", "read", "libc_read", "pthread"],
    ),
    (
        Part::Tls,
        &[
            "ring_core",
            "aes",
            "gcm",
            "sha256",
            "sha512",
            "ChaCha20",
            "chacha20",
            "poly1305",
        ],
    ),
];

/// Functions of the kernel: the outermost one that is here decides, so that all that a call causes belongs to it. Behind a call that
/// ends a function, the function itself is not in the stack, so a system call has several names.
const KERNEL_FUNCTIONS: &[(Part, &[&str])] = &[
    (
        Part::Sending,
        &["sys_sendto", "sys_sendmsg", "sys_writev", "do_writev"],
    ),
    (
        Part::Receiving,
        &["sys_recvfrom", "sys_recvmsg", "sys_readv", "do_readv"],
    ),
    (Part::Polling, &["sys_epoll", "do_epoll", "ep_poll"]),
    // tokio wakes a thread that waits for sockets by writing to an eventfd, which that thread reads.
    (
        Part::Waking,
        &[
            "sys_futex",
            "do_futex",
            "futex_wa",
            "sys_write",
            "ksys_write",
            "sys_read",
            "ksys_read",
            "sys_sched_yield",
            "do_sched_yield",
        ],
    ),
    (Part::Clocks, &["sys_clock_gettime"]),
    (
        Part::Faults,
        &[
            "asm_exc_page_fault",
            "exc_page_fault",
            "do_mem_abort",
            "sys_mmap",
            "ksys_mmap",
            "vm_mmap",
            "sys_munmap",
            "vm_munmap",
            "sys_brk",
            "sys_madvise",
            "do_madvise",
            "sys_mprotect",
            "do_mprotect",
        ],
    ),
    (
        Part::Interrupts,
        &[
            "asm_sysvec",
            "sysvec",
            "asm_common_interrupt",
            "common_interrupt",
            "irqentry",
            "exit_to_user_mode",
            "el0_irq",
            "el0t_64_irq",
            "schedule",
            "ret_from_fork",
        ],
    ),
];

/// Functions through which every call enters and leaves the kernel: they count if nothing else says what a sample is about.
const KERNEL_ENTRIES: &[&str] = &[
    "entry_SYSCALL_64",
    "do_syscall_64",
    "syscall",
    "x64_sys_call",
    "el0_svc",
    "el0t_64_sync",
    "error_entry",
    "native_irq_return",
];

/// Where a sample was taken.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// The part that it belongs to; none if the tables do not tell.
    pub(crate) part: Option<Part>,
    /// The function.
    pub(crate) function: String,
}

/// Where a sample was taken; nothing if it has no stack.
pub(crate) fn place_of(sample: &Sample<'_>) -> Option<Place> {
    let innermost = sample.frames.first()?;
    let function = format!("{:#}", demangle(innermost.symbol));
    let part = if sample.thread.starts_with(AUDIT_THREAD) {
        Some(Part::AuditWriter)
    } else if innermost.is_kernel {
        kernel_part(&sample.frames)
    } else if innermost.object == VDSO {
        Some(Part::Clocks)
    } else {
        function_part(&function)
    };
    let function = format!("{function} ({})", file_name(innermost.object));
    Some(Place { part, function })
}

/// A path's last part.
fn file_name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

fn kernel_part(frames: &[Frame<'_>]) -> Option<Part> {
    let names = || {
        let kernel = frames.iter().take_while(|frame| frame.is_kernel);
        kernel.map(|frame| frame.symbol)
    };
    let by_call = names()
        .filter_map(|name| {
            longest(KERNEL_FUNCTIONS, |prefix| {
                behind_wrapper(name).starts_with(prefix)
            })
        })
        .last();
    by_call
        .or_else(|| {
            let is_entry = |name: &str| {
                KERNEL_ENTRIES
                    .iter()
                    .any(|entry| name.trim_start_matches('_').starts_with(entry))
            };
            names().any(is_entry).then_some(Part::KernelEntry)
        })
        .or_else(|| names().all(|name| name == UNKNOWN).then_some(Part::HiddenKernel))
}

/// What `perf` calls a function that it has no name for.
const UNKNOWN: &str = "[unknown]";

/// The name of a system call without what the architecture puts before it.
fn behind_wrapper(name: &str) -> &str {
    let name = name.trim_start_matches('_');
    ["x64_", "arm64_", "se_", "do_"]
        .iter()
        .find_map(|wrapper| name.strip_prefix(wrapper).filter(|name| name.starts_with("sys_")))
        .unwrap_or(name)
}

fn function_part(name: &str) -> Option<Part> {
    if !name.contains("::") {
        let name = behind_mark(name);
        return longest(C_FUNCTIONS, |prefix| name.starts_with(prefix));
    }
    [FUNCTIONS, SHARED].into_iter().find_map(|table| {
        paths(name).find_map(|path| longest(table, |prefix| begins_with_path(path, prefix)))
    })
}

/// The name of a function of the C library without what marks it as its own.
fn behind_mark(name: &str) -> &str {
    let name = name.trim_start_matches('_');
    name.strip_prefix("GI_").unwrap_or(name).trim_start_matches('_')
}

/// Where the kernel has the functions that read its clock without entering it.
const VDSO: &str = "[vdso]";

/// The part with the longest prefix that matches.
fn longest(table: &[(Part, &[&str])], matches: impl Fn(&str) -> bool) -> Option<Part> {
    let all = table
        .iter()
        .flat_map(|(part, prefixes)| prefixes.iter().map(|prefix| (*part, *prefix)));
    all.filter(|(_, prefix)| matches(prefix))
        .max_by_key(|(_, prefix)| prefix.len())
        .map(|(part, _)| part)
}

/// Every path in a name, from its beginning on: `<a::B<c::D> as e::F>::f` has those that begin with `a`, `c` and `e`.
fn paths(name: &str) -> impl Iterator<Item = &str> {
    let is_inside = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let starts = name.char_indices().scan(false, move |was_inside, (at, c)| {
        let is_start = is_inside(c) && !*was_inside;
        *was_inside = is_inside(c);
        Some(is_start.then_some(at))
    });
    starts.flatten().filter_map(|at| name.get(at..))
}

/// Whether a path begins with these modules, and not only with their letters.
fn begins_with_path(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
}
