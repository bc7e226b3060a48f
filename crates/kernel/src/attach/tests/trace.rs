//! Tracepoints of every kind, perf events, iterators.

use std::io::Read;
use std::os::fd::AsFd;

use skep_btf::Kind;
use skep_engine::Link;
use skep_insn::build::{add, call, exit, load, mov, slots, store};
use skep_insn::{Reg, Size, helpers};
use skep_spec::{AttachPoint, AttachType, ProgType};
use skep_sys::bpf::LinkKind;
use skep_sys::version::KernelVersion;

use super::super::{Options, PerfSample, Rate};
use super::{Recipe, detached, root, skip, words};

fn tracepoint(category: &str, name: &str) -> Recipe {
    let point = AttachPoint::Tracepoint { category: category.to_owned(), name: name.to_owned() };
    Recipe::new("tp/test", ProgType::TRACEPOINT, point)
}

fn call_getppid() {
    let _ = std::os::unix::process::parent_id();
}

#[test]
fn a_tracepoint_runs_and_reads_its_cookie() {
    if !root() {
        return;
    }
    let counter = tracepoint("syscalls", "sys_enter_getppid").reading_cookie().load();
    counter.runs_while_attached(&Options { cookie: 77, ..Options::default() }, call_getppid);
    assert_eq!(counter.cookie(), 77);
}

#[test]
fn an_absent_tracepoint_names_its_neighbours() {
    if !root() {
        return;
    }
    let hint = |category: &str, name: &str| {
        let error = tracepoint(category, name).load().refused(&Options::default());
        assert!(error.to_string().contains("`counter`"), "{error}");
        error.hint().unwrap_or_default().to_owned()
    };
    assert!(hint("sched", "sched_swithc").contains("sched:sched_switch"), "{}", hint("sched", "sched_swithc"));
    assert!(hint("syscalls", "sched_switch").contains("sched:sched_switch"));
    assert!(hint("shced", "no_such_event_at_all").contains("`sched`"));
}

#[test]
fn a_bare_section_asks_for_a_name_and_takes_the_callers() {
    if !root() {
        return;
    }
    let counter = tracepoint("", "").load();
    let error = counter.refused(&Options::default());
    assert_eq!(
        error.hint(),
        Some("write it as `SEC(\"tp/CATEGORY/NAME\")`, or name it with `--attach-to CATEGORY/NAME`")
    );
    counter.runs_while_attached(
        &Options { target: Some("syscalls:sys_enter_getppid"), ..Options::default() },
        call_getppid,
    );
}

#[test]
fn a_raw_tracepoint_runs() {
    if !root() {
        return;
    }
    let point = AttachPoint::RawTracepoint { name: "sys_enter".to_owned() };
    let counter = Recipe::new("raw_tp/sys_enter", ProgType::RAW_TRACEPOINT, point).load();
    let attachment = counter.attached(&Options::default());
    call_getppid();
    super::wait_until("a system call", || counter.runs() > 0);
    assert!(matches!(&attachment.info().unwrap()[0].kind, LinkKind::RawTracepoint { name, .. } if name == "sys_enter"));
    detached(attachment);
}

#[test]
fn an_absent_raw_tracepoint_names_its_neighbours() {
    if !root() {
        return;
    }
    let hint = |name: &str| {
        let point = AttachPoint::RawTracepoint { name: name.to_owned() };
        let counter = Recipe::new("raw_tp/x", ProgType::RAW_TRACEPOINT, point).load();
        counter.refused(&Options::default()).hint().unwrap_or_default().to_owned()
    };
    assert!(hint("sched_swich").contains("`sched_switch`"));
    assert!(hint("sys_enter_openat").contains("tp/syscalls/sys_enter_openat"));
}

#[test]
fn a_btf_tracepoint_runs() {
    if !root() {
        return;
    }
    let point = AttachPoint::BtfTracepoint { name: "sched_switch".to_owned() };
    let counter = Recipe::new("tp_btf/sched_switch", ProgType::TRACING, point)
        .attach_type(AttachType::TRACE_RAW_TP)
        .against("btf_trace_sched_switch", Kind::TYPEDEF)
        .load();
    let attachment = counter.attached(&Options::default());
    super::wait_until("a switch of tasks", || counter.runs() > 0);
    // To the kernel it is a raw tracepoint that knows its types.
    assert!(
        matches!(&attachment.info().unwrap()[0].kind, LinkKind::RawTracepoint { name, .. } if name == "sched_switch")
    );
    detached(attachment);
}

#[test]
fn a_perf_event_runs_on_every_cpu() {
    if !root() {
        return;
    }
    let counter = Recipe::new("perf_event", ProgType::PERF_EVENT, AttachPoint::PerfEvent).reading_cookie().load();
    let sample = PerfSample { rate: Rate::Hz(999), ..PerfSample::default() };
    let attachment = counter.attached(&Options { sample, cookie: 5, ..Options::default() });
    assert_eq!(attachment.places(), skep_sys::cpu::online().unwrap().len());
    super::wait_until("samples", || {
        std::hint::black_box((0..100_000u64).sum::<u64>());
        counter.runs() > 10
    });
    assert_eq!(counter.cookie(), 5);
    detached(attachment);
}

#[test]
fn a_missing_hardware_counter_says_what_else_there_is() {
    // `PERF_TYPE_HARDWARE` with a number that no kernel has.
    let counter = match root() {
        true => Recipe::new("perf_event", ProgType::PERF_EVENT, AttachPoint::PerfEvent).load(),
        false => return,
    };
    let sample = PerfSample { kind: 0, config: 999, rate: Rate::Every(1000), ..PerfSample::default() };
    let error = counter.refused(&Options { sample, ..Options::default() });
    assert!(error.hint().is_some(), "{}", words(&error));
    let error = counter.refused(&Options { pid: Some(0x7fff_fff0), ..Options::default() });
    assert!(error.to_string().contains("no process"), "{}", words(&error));
}

/// For each task, one line.
fn task_iterator() -> (skep_spec::Program, skep_sys::bpf::ProgFd) {
    let recipe = Recipe::new("iter/task", ProgType::TRACING, AttachPoint::Iter { target: "task".to_owned() })
        .attach_type(AttachType::TRACE_ITER)
        .against("bpf_iter_task", Kind::FUNC);
    let insns = slots(&[
        load(Size::Dw, Reg::R6, Reg::R1, 0),  // ctx->meta
        load(Size::Dw, Reg::R1, Reg::R6, 0),  // meta->seq
        store(Size::Dw, Reg::FP, -8, 0x0a74), // "t\n"
        mov(Reg::R2, Reg::FP),
        add(Reg::R2, -8),
        mov(Reg::R3, 2),
        call(helpers::SEQ_WRITE),
        mov(Reg::R0, 0),
        exit(),
    ]);
    let fd = super::load(&recipe, &insns).unwrap();
    (recipe.program(), fd)
}

#[test]
fn an_iterator_gives_its_text_as_often_as_it_is_asked() {
    if !root() {
        return;
    }
    let (program, fd) = task_iterator();
    let attachment = super::super::attach(&program, fd.as_fd(), &Options::default()).unwrap();
    for _ in 0..2 {
        let mut text = String::new();
        attachment.iterate().unwrap().read_to_string(&mut text).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        // The end of the iteration has no task and writes a line too.
        assert!(lines.len() > 1 && lines.iter().all(|line| *line == "t"), "{text:?}");
    }
    assert_eq!(attachment.describe(), "iterator task");
    detached(attachment);
}

#[test]
fn an_iterator_can_be_limited_to_a_process() {
    if !root() {
        return;
    }
    if KernelVersion::running() < KernelVersion::new(6, 1, 0) {
        return skip("kernel 6.1");
    }
    let (program, fd) = task_iterator();
    let options = Options { pid: Some(std::process::id()), ..Options::default() };
    let attachment = super::super::attach(&program, fd.as_fd(), &options).unwrap();
    let mut text = String::new();
    attachment.iterate().unwrap().read_to_string(&mut text).unwrap();
    let threads = std::fs::read_dir("/proc/self/task").unwrap().count();
    assert!((2..=threads + 20).contains(&text.lines().count()), "{threads} threads, {text:?}");
    detached(attachment);
}

#[test]
fn what_is_no_iterator_cannot_be_iterated() {
    if !root() {
        return;
    }
    let counter = tracepoint("syscalls", "sys_enter_getppid").load();
    assert!(counter.attached(&Options::default()).iterate().is_err());
}

#[test]
fn a_program_without_a_place_is_not_attached() {
    if !root() {
        return;
    }
    let counter = Recipe::new("xdp/devmap", ProgType::XDP, AttachPoint::None).returning(2).load();
    assert!(counter.refused(&Options::default()).hint().is_some_and(|hint| hint.contains("tail calls")));
}

#[test]
fn a_pinned_link_outlives_its_attachment() {
    if !root() {
        return;
    }
    // A bpffs of our own, reached through a descriptor: nothing is left on the machine.
    let fs = skep_sys::bpffs::Bpffs::detached().unwrap();
    let folder = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fs.as_fd()));
    let counter = tracepoint("syscalls", "sys_enter_getppid").load();
    let mut attachment = counter.attached(&Options::default());
    let error = attachment.pin(std::path::Path::new("/tmp/skep-no-such-pin")).unwrap_err();
    assert!(error.hint().is_some_and(|hint| hint.contains("mount -t bpf")), "{}", words(&error));
    let path = std::path::PathBuf::from(format!("{folder}/links/probe"));
    attachment.pin(&path).unwrap_or_else(|error| panic!("{}", words(&error)));
    assert!(attachment.pin(&path).is_err());
    let id = attachment.info().unwrap()[0].id;
    drop(attachment);
    call_getppid();
    super::wait_until("the pinned program to run", || counter.runs() > 0);
    std::fs::remove_file(&path).unwrap();
    super::wait_until("the link to go", || skep_sys::bpf::LinkFd::from_id(id).is_err());
}

#[test]
fn a_program_is_attached_once_at_one_tracepoint() {
    if !root() {
        return;
    }
    let counter = tracepoint("syscalls", "sys_enter_getppid").load();
    let attachment = counter.attached(&Options::default());
    let error = counter.refused(&Options::default());
    assert!(error.to_string().contains("it is attached at tracepoint syscalls:sys_enter_getppid already"), "{error}");
    detached(attachment);
}

#[test]
fn a_decoder_asks_for_an_infrared_receiver() {
    if !root() {
        return;
    }
    // Few kernels have programs of the type; what is refused here is refused to any.
    let counter = Recipe::new("lirc_mode2", ProgType::SOCKET_FILTER, AttachPoint::Lirc).load();
    assert!(counter.refused(&Options::default()).to_string().ends_with("it needs an infrared receiver"));
    let null = Options { receiver: Some(std::path::Path::new("/dev/null")), ..Options::default() };
    let error = counter.refused(&null);
    assert!(error.to_string().contains("lirc_mode2 /dev/null: it is no infrared receiver"), "{}", words(&error));
}
