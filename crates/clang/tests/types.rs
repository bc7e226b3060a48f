//! What skep reads out of an object beyond its code: event types and suspicions. Both with every compiler, since both depend
//! on what a compiler writes into BTF.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use common::{COMPILERS, Folder, clang_in, compile, shared_cache};
use object::{Object as _, ObjectSection as _};
use skep_btf::{Btf, BtfExt};

fn parse(bytes: &[u8]) -> (Btf, BtfExt) {
    let file = object::File::parse(bytes).unwrap();
    let section = |name| file.section_by_name(name).unwrap().data().unwrap();
    (Btf::parse(section(".BTF").to_vec()).unwrap(), BtfExt::parse(section(".BTF.ext")).unwrap())
}

/// The event types of a source, as `map: type, type` lines.
fn events(name: &str, source: &str) -> Vec<String> {
    let folder = Folder::new(name);
    let file = folder.write("prog.bpf.c", source);
    let mut answers = COMPILERS.map(|compiler| {
        let object = compile(&clang_in(&shared_cache(), compiler), &file).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(object.warnings, "");
        let (btf, _) = parse(&object.bytes);
        let name = |id| {
            let found = btf.type_by_id(id).unwrap();
            format!("{} {}", found.kind(), found.name()).to_lowercase()
        };
        let line = |it: skep_clang::EventTypes| {
            let types: Vec<String> = it.types.into_iter().map(name).collect();
            format!("{}: {}", it.map, types.join(", "))
        };
        skep_clang::event_types(&btf).into_iter().map(line).collect::<Vec<_>>()
    });
    let [first, rest @ ..] = &mut answers;
    assert!(rest.iter().all(|other| other == first), "all compilers agree: {first:?} {rest:?}");
    std::mem::take(first)
}

const HEAD: &str = r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
struct inner { int z; };
struct event { int pid; struct inner in; struct event *next; };
struct other { long a; };
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } ring SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } second SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
    __uint(key_size, 4);
    __uint(value_size, 4);
} perf SEC(".maps");
char LICENSE[] SEC("license") = "GPL";
"#;

#[test]
fn a_reserved_record_has_the_type_of_the_pointer_that_is_submitted() {
    let source = r#"
SEC("tp/a/b") int f(void *ctx) {
    struct event *e = bpf_ringbuf_reserve(&ring, sizeof(*e), 0);
    if (!e) return 0;
    e->pid = 1;
    bpf_ringbuf_submit(e, 0);
    return 0;
}"#;
    assert_eq!(events("reserve", &format!("{HEAD}{source}")), ["ring: struct event"]);
}

#[test]
fn a_perf_buffer_has_the_type_of_the_object_that_is_sent() {
    let source = r#"
SEC("tp/a/b") int f(void *ctx) {
    struct other o = { 3 };
    return bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, &o, sizeof(o));
}"#;
    assert_eq!(events("perf", &format!("{HEAD}{source}")), ["perf: struct other"]);
}

#[test]
fn one_buffer_may_carry_several_types_and_several_buffers_stay_apart() {
    let source = r#"
SEC("tp/a/b") int f(void *ctx) {
    struct event *e = bpf_ringbuf_reserve(&ring, sizeof(*e), 0);
    if (!e) return 0;
    bpf_ringbuf_submit(e, 0);
    struct other o = { 3 };
    bpf_ringbuf_output(&ring, &o, sizeof(o), 0);
    return 0;
}
SEC("tp/a/c") int g(void *ctx) {
    struct other *o = bpf_ringbuf_reserve(&second, sizeof(*o), 0);
    if (!o) return 0;
    bpf_ringbuf_submit(o, BPF_RB_FORCE_WAKEUP);
    return 0;
}"#;
    assert_eq!(
        events("several", &format!("{HEAD}{source}")),
        ["ring: struct event, struct other", "second: struct other"]
    );
}

#[test]
fn an_inlined_function_and_a_typedef_keep_their_names() {
    let source = r#"
typedef struct { int a; int b; } pair_t;
static __always_inline void send(pair_t *pair) { bpf_ringbuf_submit(pair, 0); }
SEC("tp/a/b") int f(void *ctx) {
    pair_t *pair = bpf_ringbuf_reserve(&ring, sizeof(*pair), 0);
    if (pair) send(pair);
    return 0;
}"#;
    assert_eq!(events("inlined", &format!("{HEAD}{source}")), ["ring: typedef pair_t"]);
}

#[test]
fn bytes_have_no_type_and_odd_calls_still_compile() {
    let source = r#"
SEC("tp/a/b") int f(void *ctx) {
    char text[8] = {};
    bpf_ringbuf_output(&ring, text, sizeof(text), 0);
    bpf_ringbuf_output(&second, &(struct event){ .pid = 1, .in = { 2 } }, sizeof(struct event), 0);
    void *raw = bpf_ringbuf_reserve(&ring, 8, 0);
    if (raw) bpf_ringbuf_discard(raw, 0);
    __u64 now = 1;
    bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, &now, sizeof(now));
    return 0;
}"#;
    assert_eq!(events("bytes", &format!("{HEAD}{source}")), ["perf: typedef __u64"]);
}

#[test]
fn no_instruction_is_added() {
    let folder = Folder::new("instructions");
    let source = r#"
SEC("tp/a/b") int f(void *ctx) {
    struct event *e = bpf_ringbuf_reserve(&ring, sizeof(*e), 0);
    if (!e) return 0;
    e->pid = 1;
    bpf_ringbuf_submit(e, 0);
    return 0;
}"#;
    let with = folder.write("with.bpf.c", &format!("{HEAD}{source}"));
    let without = folder.write("without.bpf.c", &format!("#define SKEP_NO_EVENT_TYPES\n{HEAD}{source}"));
    for compiler in COMPILERS {
        let clang = clang_in(&shared_cache(), compiler);
        let code = |file| {
            let object = compile(&clang, file).unwrap();
            let file = object::File::parse(&*object.bytes).unwrap();
            file.section_by_name("tp/a/b").unwrap().data().unwrap().to_vec()
        };
        assert_eq!(code(&with), code(&without), "{compiler}");
    }
}

/// The warnings about a source, as text without its place.
fn lints(name: &str, source: &str) -> Vec<String> {
    let folder = Folder::new(name);
    let file = folder.write("prog.bpf.c", source);
    let mut answers = COMPILERS.map(|compiler| {
        let object = compile(&clang_in(&shared_cache(), compiler), &file).unwrap_or_else(|error| panic!("{error}"));
        let spec = skep_spec::Spec::parse(&object.bytes, name).unwrap_or_else(|error| panic!("{error}"));
        let mut found = skep_clang::lint(&spec);
        for warning in &mut found {
            if warning.code == "L102" {
                let (file, line) = warning.place.take().expect("functions have a place");
                assert!(file.ends_with("prog.bpf.c") && line > 0, "{file}:{line}");
            }
        }
        found.into_iter().map(|warning| warning.to_string()).collect::<Vec<_>>()
    });
    let [first, rest @ ..] = &mut answers;
    assert!(rest.iter().all(|other| other == first), "all compilers agree: {first:?} {rest:?}");
    std::mem::take(first)
}

#[test]
fn a_plain_const_is_pointed_out_and_a_volatile_one_is_not() {
    let source = r#"
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
typedef int pid_t;
const int myappid = 39228;
const volatile int threshold = 3;
const volatile pid_t other = 0;
static const int own = 7;
const char text[] = "hello";
SEC("tp/a/b") int f(void *ctx) {
    return myappid + threshold + other + own + text[0];
}
char LICENSE[] SEC("license") = "GPL";
"#;
    assert_eq!(
        lints("const", source),
        [
            "warning[L101]: `myappid` is a plain `const`, so the compiler has put its value into the code; make it `const volatile` to set it with --myappid"
        ]
    );
}

#[test]
fn parameters_without_a_macro_are_pointed_out_with_the_right_one() {
    let source = r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
SEC("kprobe/__x64_sys_write")
int write(struct pt_regs *ctx, int fd, const void *buf, size_t count) { return fd; }
SEC("kprobe/do_unlinkat")
int unlink(struct pt_regs *ctx, int dfd, struct filename *name) { return dfd; }
SEC("kprobe/do_unlinkat")
int BPF_KPROBE(right, int dfd, struct filename *name) { return dfd; }
SEC("tp/syscalls/sys_enter_write")
int tp(void *ctx, char *const *more) { return more != 0; }
static __noinline int helper(int a, int b) { return a * b; }
SEC("xdp") int packet(struct xdp_md *ctx) { return helper(ctx->data, ctx->data_end); }
char LICENSE[] SEC("license") = "GPL";
"#;
    assert_eq!(
        lints("parameters", source),
        [
            "warning[L102]: `write` is called with its context alone, so `fd`, `buf`, `count` hold garbage; declare it as `int BPF_KSYSCALL(write, int fd, const void *buf, size_t count)`",
            "warning[L102]: `unlink` is called with its context alone, so `dfd`, `name` hold garbage; declare it as `int BPF_KPROBE(unlink, int dfd, struct filename *name)`",
            "warning[L102]: `tp` is called with its context alone, so `more` holds garbage; take what you need from the context",
        ]
    );
}
