//! The embedded headers: alone and together, in both orders, with every compiler, and on three kinds of machine: one with
//! its own Linux headers, one without, and a program that begins with vmlinux.h.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use common::{COMPILERS, Folder, clang_in, compile, files_below, kernel_btf, shared_cache};
use skep_btf::{Kind, Type};
use skep_clang::{Arch, Error, Request, Target, Vmlinux};

/// All headers as they are written in an `#include`.
fn names() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("headers");
    let name = |path: &Path| {
        let path = path.strip_prefix(&root).unwrap().to_str().unwrap();
        path.trim_start_matches("libc/").trim_start_matches("uapi/").to_owned()
    };
    let all = files_below(&root, ".h").iter().map(|path| name(path)).collect::<Vec<_>>();
    // The two byte orders exclude each other.
    all.into_iter().filter(|name| !name.ends_with("big_endian.h")).collect()
}

fn includes<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(|name| format!("#include <{name}>\n")).collect()
}

/// Each of the sources compiles without a warning.
fn check(test: &str, first: &str, args: &[&str]) {
    let folder = Folder::new(test);
    let names = names();
    let mut sources: Vec<(String, String)> = Vec::new();
    sources.push(("all".to_owned(), includes(names.iter())));
    sources.push(("reversed".to_owned(), includes(names.iter().rev())));
    for name in &names {
        sources.push((name.replace('/', "-"), includes(std::iter::once(name))));
    }
    for compiler in COMPILERS {
        let clang = clang_in(&shared_cache(), compiler);
        // Every header alone only with the newest one: starting a compiler 70 times takes its time.
        let count = if compiler == COMPILERS[1] { sources.len() } else { 2 };
        for (name, text) in &sources[..count] {
            let file = folder.write(&format!("{name}.bpf.c"), &format!("{first}{text}int unused;\n"));
            let request = Request {
                vmlinux: Some(Vmlinux::from(kernel_btf())),
                args: args.iter().map(Into::into).collect(),
                ..Request::new(&file)
            };
            let object = clang.compile(&request).unwrap_or_else(|error| panic!("{compiler}: {error}"));
            assert_eq!(object.warnings, "", "{compiler}: {name}");
        }
    }
}

#[test]
fn headers_go_together_in_every_order_with_the_machines_own() {
    check("host", "", &[]);
}

#[test]
fn headers_go_together_in_every_order_on_a_machine_without_any() {
    check("none", "", &["-nostdlibinc"]);
}

#[test]
fn headers_go_together_in_every_order_after_vmlinux() {
    check("vmlinux", "#include \"vmlinux.h\"\n", &[]);
}

#[test]
fn standard_headers_may_come_before_vmlinux() {
    let folder = Folder::new("before");
    let text = "#include <stdbool.h>\n#include <stddef.h>\n#include <stdint.h>\n#include <string.h>\n#include <errno.h>\n\
                #include <bpf/bpf_helpers.h>\n#include \"vmlinux.h\"\nbool flag = true; int64_t wide = -EINVAL;\n";
    let file = folder.write("a.bpf.c", text);
    for compiler in COMPILERS {
        let object = compile(&clang_in(&shared_cache(), compiler), &file).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(object.warnings, "", "{compiler}");
    }
}

#[test]
fn macros_of_the_kernel_are_there_after_vmlinux_and_without_any_headers() {
    let folder = Folder::new("macros");
    let body = "#include <linux/if_ether.h>\n#include <linux/pkt_cls.h>\n#include <linux/in.h>\n#include <linux/ip.h>\n\
                #include <linux/tcp.h>\n#include <linux/errno.h>\n#include <bpf/bpf_endian.h>\n\
                int checks[] = { bpf_htons(ETH_P_IP), TC_ACT_SHOT, IPPROTO_ICMP, -EPERM, sizeof(struct iphdr),\n\
                sizeof(struct tcphdr), sizeof(struct ethhdr), BPF_MAP_TYPE_HASH, XDP_DROP };\n";
    let bare = folder.write("bare.bpf.c", &format!("#include <linux/bpf.h>\n{body}"));
    let after = folder.write("after.bpf.c", &format!("#include \"vmlinux.h\"\n{body}"));
    for compiler in COMPILERS {
        let clang = clang_in(&shared_cache(), compiler);
        compile(&clang, &after).unwrap_or_else(|error| panic!("{error}"));
        for args in [vec![], vec!["-nostdlibinc".into()]] {
            clang.compile(&Request { args, ..Request::new(&bare) }).unwrap_or_else(|error| panic!("{error}"));
        }
    }
}

#[test]
fn every_architecture_names_its_registers_in_either_byte_order() {
    let folder = Folder::new("arch");
    let text = "#include <linux/bpf.h>\n#include <linux/ptrace.h>\n#include <bpf/bpf_helpers.h>\n\
                #include <bpf/bpf_core_read.h>\n#include <bpf/bpf_tracing.h>\n\
                SEC(\"kprobe/a\") int BPF_KPROBE(k, long a, long b, long c, long d) { return a + b + c + d; }\n\
                SEC(\"kretprobe/a\") int BPF_KRETPROBE(r, long ret) { return ret + PT_REGS_IP(ctx) + PT_REGS_SP(ctx); }\n\
                SEC(\"ksyscall/a\") int BPF_KSYSCALL(s, long a, long b, long c, long d, long e) { return a + e; }\n";
    let file = folder.write("a.bpf.c", text);
    for compiler in COMPILERS {
        let clang = clang_in(&shared_cache(), compiler);
        for arch in ["x86", "arm64", "arm", "riscv", "s390", "powerpc", "loongarch"] {
            for big_endian in [false, true] {
                let target = Target { arch: Arch::from_name(arch).unwrap(), big_endian };
                let args = vec!["-nostdlibinc".into()];
                let object = clang.compile(&Request { target, args, ..Request::new(&file) });
                let object = object.unwrap_or_else(|error| panic!("{compiler} {arch}: {error}"));
                assert_eq!(object.bytes[5], if big_endian { 2 } else { 1 }, "the byte order in e_ident");
            }
        }
    }
}

#[test]
fn helpers_have_the_kernels_numbers() {
    let text = include_str!("../headers/bpf/bpf_helper_defs.h");
    let mut ours = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("static ")) {
        let name = line.split_once("(* const bpf_").unwrap().1.split(')').next().unwrap();
        let number: i64 = line.rsplit_once("(void *) ").unwrap().1.trim_end_matches(';').parse().unwrap();
        assert_eq!(ours.insert(name.to_owned(), number), None, "{name} appears once");
    }
    let btf = kernel_btf();
    let Type::Enum(kernel) = btf.type_by_id(btf.find("bpf_func_id", Kind::ENUM).unwrap()).unwrap() else { panic!() };
    let theirs: BTreeMap<String, i64> = kernel
        .values()
        .filter_map(|value| Some((value.name.strip_prefix("BPF_FUNC_")?.to_owned(), value.value as i64)))
        .filter(|(name, _)| name != "unspec")
        .collect();
    // An older kernel knows fewer.
    for (name, number) in &theirs {
        assert_eq!(ours.get(name), Some(number), "{name}");
    }
    assert_eq!(ours.len(), 211);
}

#[test]
fn programs_load_with_all_kinds_of_macros() {
    let folder = Folder::new("load");
    let text = r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include <bpf/usdt.bpf.h>
SEC("tp_btf/sched_switch")
int BPF_PROG(sw, bool preempt, struct task_struct *prev, struct task_struct *next) {
    const unsigned char *name = BPF_CORE_READ(prev, mm, exe_file, f_path.dentry, d_name.name);
    u64 bits = BPF_CORE_READ_BITFIELD(prev, sched_contributes_to_load) + BPF_CORE_READ_BITFIELD_PROBED(prev, in_execve);
    char comm[16];
    BPF_CORE_READ_STR_INTO(&comm, prev, group_leader, comm);
    if (bpf_core_field_exists(prev->flags) && bpf_core_field_exists(struct task_struct, flags) &&
        bpf_core_type_exists(struct task_struct) && bpf_core_type_size(struct task_struct) > 100 &&
        bpf_core_enum_value_exists(enum pid_type, PIDTYPE_TGID))
        bpf_printk("%s %llu %d %p", comm, bits, (int)bpf_core_enum_value(enum pid_type, PIDTYPE_TGID), name);
    return 0;
}
SEC("tp_btf/sched_process_exec")
int BPF_PROG2(ex, struct task_struct *, p, pid_t, old_pid, struct linux_binprm *, bprm) { return p->pid == old_pid; }
SEC("iter/task")
int tasks(struct bpf_iter__task *ctx) {
    struct task_struct *task = ctx->task;
    char text[32];
    int i;
    if (!task) return 0;
    BPF_SEQ_PRINTF(ctx->meta->seq, "%d %s\n", task->pid, task->comm);
    BPF_SNPRINTF(text, sizeof(text), "%d-%d", task->pid, task->tgid);
    bpf_printk("%s", text);
    return 0;
}
SEC("usdt") int BPF_USDT(u, int a, char *b) {
    bpf_printk("%d %s %d %d %ld", a, b, bpf_usdt_arg_cnt(ctx), 2, bpf_usdt_cookie(ctx));
    return bpf_usdt_arg_size(ctx, 0);
}
char LICENSE[] SEC("license") = "GPL";
"#;
    let file = folder.write("a.bpf.c", text);
    for compiler in COMPILERS {
        let object = compile(&clang_in(&shared_cache(), compiler), &file).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(object.warnings, "", "{compiler}");
        let built = folder.path().join("a.bpf.o");
        std::fs::write(&built, &object.bytes).unwrap();
        // libbpf, inside bpftool, is the judge. In mounts of its own, so nothing stays pinned.
        let script = "mount -t bpf bpf \"$1\" || exit 77; exec bpftool prog loadall \"$2\" \"$1/progs\"";
        let pins = folder.path().join("pins");
        std::fs::create_dir_all(&pins).unwrap();
        let output = Command::new("unshare")
            .args(["-m", "sh", "-c", script, "sh"])
            .args([&pins, &built])
            .env("PATH", format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default()))
            .output()
            .expect("unshare and bpftool are installed (run cargo xtask setup)");
        let text = String::from_utf8_lossy(&output.stderr);
        if output.status.code() == Some(77) || text.contains("unshare failed") {
            assert!(std::env::var_os("CI").is_none(), "CI must be able to load BPF");
            println!("skipped: needs root with BPF");
            return;
        }
        assert!(output.status.success(), "{compiler}: {text}");
    }
}

#[test]
fn a_missing_vmlinux_is_explained() {
    let folder = Folder::new("missing");
    let file = folder.write("a.bpf.c", "#include \"vmlinux.h\"\n");
    let error = clang_in(&shared_cache(), COMPILERS[0]).compile(&Request::new(&file)).unwrap_err();
    assert!(
        matches!(&error, Error::Compile { hint: Some(hint), .. } if hint.contains("/sys/kernel/btf/vmlinux")),
        "{error}"
    );
}

/// Where the kernel tells no types: with the machine's headers and with ours alone.
#[test]
fn a_short_vmlinux_has_what_programs_need_without_the_kernel() {
    let folder = Folder::new("short");
    let text = r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_tracing.h>
#include <linux/if_ether.h>
#include <linux/tcp.h>

struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 1); __type(key, u32); __type(value, u64); } map SEC(".maps");

SEC("tp/syscalls/sys_enter_write") int enter(struct trace_event_raw_sys_enter *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	u32 key = BPF_CORE_READ(task, real_parent, tgid);
	u64 value = ctx->args[2];
	bool big = value > 100;

	return big ? bpf_map_update_elem(&map, &key, &value, BPF_ANY) : 0;
}
SEC("xdp") int packet(struct xdp_md *ctx)
{
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(eth + 1);
	struct tcphdr *tcp = (void *)(ip + 1);

	if ((void *)(tcp + 1) > (void *)(long)ctx->data_end || eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	return ip->protocol == IPPROTO_TCP && tcp->syn ? XDP_DROP : XDP_PASS;
}
SEC("perf_event") int sample(struct bpf_perf_event_data *ctx)
{
	return PT_REGS_IP(&ctx->regs) != 0;
}
SEC("uretprobe//bin/sh:main") int BPF_URETPROBE(leaves, long ret)
{
	return ret;
}
char LICENSE[] SEC("license") = "GPL";
"#;
    let good = folder.write("a.bpf.c", text);
    let bad = folder.write("b.bpf.c", "#include \"vmlinux.h\"\nint f(struct sock *sk) { return sk->sk_rcvbuf; }\n");
    let request = |file, args: &[&str]| Request {
        vmlinux: Some(Vmlinux::short()),
        args: args.iter().map(Into::into).collect(),
        ..Request::new(file)
    };
    for compiler in COMPILERS {
        let clang = clang_in(&shared_cache(), compiler);
        for args in [&[][..], &["-nostdlibinc"]] {
            let object =
                clang.compile(&request(&good, args)).unwrap_or_else(|error| panic!("{compiler} {args:?}: {error}"));
            assert_eq!(object.warnings, "", "{compiler} {args:?}");
        }
        let error = clang.compile(&request(&bad, &[])).unwrap_err();
        assert!(
            matches!(&error, Error::Compile { hint: Some(hint), .. } if hint.contains("`--engine user`")),
            "{error}"
        );
    }
}
