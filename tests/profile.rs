//! The parts of the webhook's profile that only compute (`cargo bench --bench webhook -- --profile`): what `perf` prints, which
//! part a function belongs to, and how samples become microseconds.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "../benches/webhook/profile/parts.rs"]
mod parts;
#[path = "../benches/webhook/profile/report.rs"]
mod report;
#[path = "../benches/webhook/profile/samples.rs"]
mod samples;
#[expect(dead_code, reason = "benchmarks share the rest of it")]
#[path = "../benches/support/mod.rs"]
mod support;

use parts::{Part, place_of};
use report::{Counts, Profile, Server, render};
use samples::{Frame, Sample, samples};
use serde_json::Value;
use support::Output;

/// What `perf script` prints of three samples: in the program, in the kernel, and on the thread of the audit log.
const PRINTED: &str = "\
tokio-rt-worker 
	    5555555a1b2c _RNvMNtCs1234_2h25codecINtB2_5CodecE4poll (/usr/bin/pullpass)
	    7ffff7a00000 [unknown] ([unknown])

tokio-rt-worker 
	ffffffff8180a0b0 _raw_spin_unlock_irqrestore ([kernel.kallsyms])
	ffffffff8110a0b0 try_to_wake_up ([kernel.kallsyms])
	ffffffff8190a0b0 tcp_sendmsg ([kernel.kallsyms])
	ffffffff8190a1b0 __x64_sys_writev ([kernel.kallsyms])
	ffffffff8190a2b0 do_syscall_64 ([kernel.kallsyms])
	ffffffff8200012f entry_SYSCALL_64_after_hwframe ([kernel.kallsyms])
	    7ffff7b0a0b0 writev (/usr/lib/x86_64-linux-gnu/libc.so.6)

audit-file 
	ffffffff8180a0b0 ext4_file_write_iter ([kernel.kallsyms])

";

fn user(symbol: &str) -> Sample<'_> {
    Sample {
        thread: "tokio-rt-worker",
        frames: vec![Frame {
            is_kernel: false,
            symbol,
            object: "/usr/bin/pullpass",
        }],
    }
}

fn kernel<'a>(symbols: &[&'a str]) -> Sample<'a> {
    let frames = symbols.iter().map(|symbol| Frame {
        is_kernel: true,
        symbol,
        object: "[kernel.kallsyms]",
    });
    Sample {
        thread: "tokio-rt-worker",
        frames: frames.collect(),
    }
}

#[test]
fn stacks_are_read_as_perf_prints_them() {
    let samples = samples(PRINTED).unwrap();
    let sizes: Vec<_> = samples
        .iter()
        .map(|sample| (sample.thread, sample.frames.len()))
        .collect();
    assert_eq!(
        sizes,
        [("tokio-rt-worker", 2), ("tokio-rt-worker", 7), ("audit-file", 1)]
    );
    assert!(!samples[0].frames[0].is_kernel && samples[1].frames[5].is_kernel);
    assert_eq!(samples[1].frames[6].symbol, "writev");
    assert_eq!(samples[1].frames[6].object, "/usr/lib/x86_64-linux-gnu/libc.so.6");
}

#[test]
fn other_output_of_perf_is_an_error() {
    for text in [
        "\t    5555555a1b2c a (b)\n",
        "thread\n\tno address\n",
        "thread\n\t  12 no-file\n",
    ] {
        assert!(samples(text).is_err(), "{text}");
    }
}

#[test]
fn the_longest_path_decides_the_part() {
    for (symbol, part) in [
        ("pullpass::admission::json::reader::Reader::string", Part::Reading),
        ("pullpass::admission::Admission::answer", Part::Deciding),
        (
            "<pullpass::admission::review::response::ReviewResponse>::encode",
            Part::Answer,
        ),
        (
            "<h2::codec::Codec<T, B> as tokio::io::AsyncRead>::poll",
            Part::Http,
        ),
        ("<http::header::map::HeaderMap>::insert", Part::Http),
        (
            "core::ptr::drop_in_place::<axum::routing::route::Route>",
            Part::Routing,
        ),
        (
            "core::ptr::drop_in_place<pullpass::server::connection::Caller>",
            Part::Limits,
        ),
        (
            "<serde_json::ser::Compound as serde::ser::SerializeStruct>::serialize_field::<pullpass::audit::record::PodRecord>",
            Part::Audit,
        ),
        ("serde_json::ser::format_escaped_str", Part::Serializing),
        (
            "<alloc::vec::Vec<T> as core::iter::FromIterator>::from_iter",
            Part::Collections,
        ),
        ("alloc::raw_vec::RawVec<T,A>::grow_one", Part::Allocator),
        ("_int_malloc", Part::Allocator),
        ("__memmove_avx_unaligned_erms", Part::Memory),
        ("__GI___writev", Part::Sending),
        ("__GI___libc_write", Part::Waking),
        ("_aesni_ctr32_ghash_6x", Part::Tls),
    ] {
        assert_eq!(place_of(&user(symbol)).unwrap().part, Some(part), "{symbol}");
    }
    assert_eq!(place_of(&user("h2o::server::serve")).unwrap().part, None);
}

#[test]
fn the_outermost_call_decides_the_part_of_the_kernel() {
    let entry = ["do_syscall_64", "entry_SYSCALL_64_after_hwframe"];
    for (symbols, part) in [
        (vec!["tcp_sendmsg", "__x64_sys_writev"], Some(Part::Sending)),
        (vec!["tcp_recvmsg", "__arm64_sys_recvfrom"], Some(Part::Receiving)),
        (
            vec![
                "finish_task_switch",
                "schedule",
                "do_epoll_wait",
                "__x64_sys_epoll_wait",
            ],
            Some(Part::Polling),
        ),
        (
            vec!["eventfd_write", "vfs_write", "__x64_sys_write"],
            Some(Part::Waking),
        ),
        (
            vec!["net_rx_action", "asm_sysvec_apic_timer_interrupt"],
            Some(Part::Interrupts),
        ),
        (vec![], Some(Part::KernelEntry)),
    ] {
        let symbols = [symbols, entry.to_vec()].concat();
        assert_eq!(place_of(&kernel(&symbols)).unwrap().part, part, "{symbols:?}");
    }
    assert_eq!(
        place_of(&kernel(&["[unknown]"])).unwrap().part,
        Some(Part::HiddenKernel)
    );
    assert_eq!(place_of(&kernel(&["kthread_of_nobody"])).unwrap().part, None);
}

#[test]
fn the_audit_thread_is_a_part_of_its_own() {
    let samples = samples(PRINTED).unwrap();
    let parts: Vec<_> = samples
        .iter()
        .map(|sample| place_of(sample).unwrap().part)
        .collect();
    assert_eq!(
        parts,
        [Some(Part::Http), Some(Part::Sending), Some(Part::AuditWriter)]
    );
}

fn server(symbols: &[&str], micros: f64) -> Server {
    let mut counts = Counts::default();
    let samples: Vec<_> = symbols.iter().map(|symbol| user(symbol)).collect();
    counts.add(&samples);
    Server {
        counts,
        requests: 1000,
        micros,
        profiled_micros: 2.0 * micros,
    }
}

#[test]
fn parts_add_up_to_the_time_without_the_profiler() {
    let pullpass = server(&["h2::a", "h2::b", "h2::b", "malloc", "mystery"], 30.0);
    let floor = server(&["h2::a", "malloc"], 20.0);
    let profile = Profile::new(("3 KB", 2800), &pullpass, &floor);
    let json: Value = serde_json::from_str(&render(&[profile], Output::Json).unwrap()).unwrap();
    let profile = &json[0];
    let rows: Vec<_> = profile["parts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let micros = |name: &str| row[name].as_f64().unwrap();
            (
                row["part"].as_str(),
                [
                    micros("pullpassMicros"),
                    micros("floorMicros"),
                    micros("differenceMicros"),
                ],
            )
        })
        .collect();
    assert_eq!(
        rows,
        [
            (Some("http"), [18.0, 10.0, 8.0]),
            (Some("allocator"), [6.0, 10.0, -4.0]),
            (None, [6.0, 0.0, 6.0]),
        ]
    );
    assert_eq!(profile["unassigned"][0]["function"], "mystery (pullpass)");
    assert_eq!(
        profile["pullpass"]["functions"][0]["function"],
        "h2::b (pullpass)"
    );
    assert_eq!(profile["pullpass"]["profiledCpuMicrosPerRequest"], 60.0);
}

#[test]
fn the_table_names_functions_without_a_part() {
    let pullpass = server(&["h2::a", "mystery"], 30.0);
    let profile = Profile::new(("3 KB", 2800), &pullpass, &server(&["h2::a"], 20.0));
    let text = render(&[profile], Output::Table).unwrap();
    for line in [
        "not assigned                15.00 us  0.00 us   15.00 us",
        "all, without the profiler   30.00 us  20.00 us  10.00 us",
        "not assigned: 15.00 us in mystery (pullpass)",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}
