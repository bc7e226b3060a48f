//! What this machine can do for scripts, in the form of `bpftrace --info`: harnesses read it.

use std::fmt::Write;

use skep_insn::helpers;
use skep_kernel::LiveTarget;
use skep_script::Target as _;
use skep_spec::MapType;
use skep_spec::target::{Feature, Target as _};
use skep_sys::perf_event::ProbePmu;
use skep_sys::version::KernelVersion;

/// One `name: yes|no` line for each feature.
pub(crate) fn info() -> String {
    let target = LiveTarget::shared();
    let mut text = String::new();
    let running = KernelVersion::running();
    let since = |major, minor| running >= KernelVersion::new(major, minor, 0);
    let btf = target.btf().ok().flatten();
    let kernel_function = |name| btf.as_ref().is_some_and(|btf| btf.find(name, skep_btf::Kind::FUNC).is_some());
    let kprobes = ProbePmu::find("kprobe").is_ok();
    let section = |text: &mut String, title: &str, lines: &[(&str, bool)]| {
        let _ = writeln!(text, "{title}");
        for (name, there) in lines {
            let _ = writeln!(text, "  {name}: {}", if *there { "yes" } else { "no" });
        }
        text.push('\n');
    };
    let _ = writeln!(text, "System\n  OS: Linux {running}\n  Arch: {}\n", std::env::consts::ARCH);
    let _ = writeln!(text, "Build\n  version: skep v{}", env!("CARGO_PKG_VERSION"));
    section(
        &mut text,
        "  LLVM: none",
        &[
            ("libdw (DWARF support)", true),
            ("dwunwind (DWARF stack unwinding)", true),
            ("blazesym (advanced symbolization)", true),
            ("libpath", true),
        ],
    );
    let helper = |number| target.has_helper(number);
    section(
        &mut text,
        "Kernel helpers",
        &[
            ("get_boot_ns", helper(helpers::KTIME_GET_BOOT_NS)),
            ("get_tai_ns", helper(helpers::KTIME_GET_TAI_NS)),
            ("get_func_ip", kprobes && helper(helpers::GET_FUNC_IP)),
            ("jiffies64", helper(helpers::JIFFIES64)),
            ("map_lookup_percpu_elem", helper(helpers::MAP_LOOKUP_PERCPU_ELEM)),
            ("for_each_map_elem", helper(helpers::FOR_EACH_MAP_ELEM)),
            ("get_ns_current_pid_tgid", helper(helpers::GET_NS_CURRENT_PID_TGID)),
            ("loop", helper(helpers::LOOP)),
            ("dpath", since(5, 10) && btf.is_some()),
            ("skboutput", since(5, 5) && btf.is_some()),
            ("probe_read_kernel", target.supports(Feature::ProbeReadKernel)),
            ("send_signal", helper(helpers::SEND_SIGNAL)),
            ("override_return", kprobes && helper(helpers::OVERRIDE_RETURN)),
        ],
    );
    // 5.2 raised it for those who may load anything (`BPF_COMPLEXITY_LIMIT_INSNS`, include/linux/bpf.h).
    let limit = if since(5, 2) { 1_000_000 } else { 4096 };
    section(
        &mut text,
        &format!("Kernel features\n  Instruction limit: {limit}"),
        &[
            ("Loop support", since(5, 3)),
            ("btf", btf.is_some()),
            ("module btf", btf.is_some() && since(5, 11)),
            ("uprobe_multi", target.supports(Feature::UprobeMulti)),
            ("kprobe_multi", kprobes && since(5, 18)),
            ("kprobe_session", kprobes && since(6, 10)),
            ("uprobe refcount (depends on Build:bcc bpf_attach_uprobe refcount)", since(4, 20)),
            ("kernel function calls", kernel_function("bpf_iter_num_new")),
            ("cookies", target.supports(Feature::AttachCookie)),
        ],
    );
    let map = |kind| target.features().map_type(kind).is_ok();
    section(
        &mut text,
        "Map types",
        &[
            ("hash", map(MapType::HASH)),
            ("percpu hash", map(MapType::PERCPU_HASH)),
            ("lru hash", map(MapType::LRU_HASH)),
            ("array", map(MapType::ARRAY)),
            ("percpu array", map(MapType::PERCPU_ARRAY)),
            ("stack_trace", map(MapType::STACK_TRACE)),
            ("perf_event_array", map(MapType::PERF_EVENT_ARRAY)),
            ("ringbuf", map(MapType::RINGBUF)),
        ],
    );
    section(
        &mut text,
        "Probe types",
        &[
            ("kprobe", kprobes),
            ("tracepoint", true),
            ("perf_event", true),
            ("fentry", kprobes && btf.is_some() && since(5, 5)),
            ("kprobe_multi", kprobes && since(5, 18)),
            ("uprobe", ProbePmu::find("uprobe").is_ok()),
            ("iter", kernel_function("bpf_iter_task")),
            ("iter:task", kernel_function("bpf_iter_task")),
            ("iter:task_file", kernel_function("bpf_iter_task_file")),
            ("iter:task_vma", kernel_function("bpf_iter_task_vma")),
            ("rawtracepoint", since(4, 17)),
        ],
    );
    text
}
