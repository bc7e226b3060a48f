//! Stacks in every mode: addresses, symbols with their files, build ids, a few frames only, and code that a process made itself.

use std::collections::BTreeMap;
use std::ffi::OsStr;

use serde_json::Value;

use crate::support::needs::Need::{Kprobes, Member, Program, Root};
use crate::support::programs::case;
use crate::support::skep::{call, command};
use crate::support::{Skep, needs, scratch};

/// Makes a function at run time, tells its name as just-in-time compilers do, and calls it: it asks for the group of a process
/// that nobody else asks for.
const COMPILER: &str = r#"
import ctypes, mmap, os, time
code = bytes.fromhex("554889e5bfe95c0000b8790000000f055dc3") # getpgid(0x5ce9), in a frame of its own
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(code)
at = ctypes.addressof(ctypes.c_char.from_buffer(page))
path = "/tmp/perf-%d.map" % os.getpid()
with open(path, "w") as names:
    names.write("%x %x compiled here\n" % (at, len(code)))
ctypes.CFUNCTYPE(ctypes.c_long)(at)()
time.sleep(2)
"#;
/// Where the function of [`COMPILER`] goes on behind its system call, in bytes.
const BEHIND_THE_CALL: &str = "+16";

/// The lines of the stack behind `name=`, without their indent.
fn stack<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let (_, behind) = text.split_once(&format!("<{name}")).unwrap_or_else(|| panic!("no {name}: {text}"));
    let (lines, _) = behind.split_once('>').expect("every stack ends");
    lines.lines().map(|line| line.trim_end()).filter(|line| !line.is_empty()).map(|line| &line[8..]).collect()
}

fn address(text: &str) -> u64 {
    u64::from_str_radix(text.trim(), 16).unwrap_or_else(|_| panic!("no address: {text}"))
}

#[test]
fn every_mode_shows_the_same_stack() {
    if !needs(&[Root, Program("python3")]) {
        return;
    }
    if !cfg!(target_arch = "x86_64") {
        println!("skipped: needs x86_64");
        return;
    }
    let program = scratch("stacks").join("compiler.py");
    // Another number than that of the case which looks at every process, and may run at the same time.
    let compiler = COMPILER.replace("bfe95c", "bfea5c").replace("0x5ce9", "0x5cea");
    std::fs::write(&program, compiler).expect("the folder is ours");
    let script = r#"
        tracepoint:syscalls:sys_enter_getpgid /pid == cpid && args.pid == 0x5cea/ {
            printf("<pid\n        %d>", pid);
            printf("<kraw%s><kperf%s><kthree%s><k%s>", kstack(raw), kstack(perf), kstack(3), kstack);
            printf("<uraw%s><uperf%s><ubuild%s><uone%s><u%s>\n", ustack(raw), ustack(perf), ustack(build_id), ustack(1), ustack);
            exit();
        }"#;
    let out = call(&["trace", "-c", &format!("python3 {}", program.display()), script]);
    let text = &out.stdout;
    // The run ends the process, so its file is ours to remove.
    std::fs::remove_file(format!("/tmp/perf-{}.map", stack(text, "pid")[0])).expect("the process has written it");
    assert!(out.status.success(), "{}", out.stderr);

    // Of the kernel: an address, then a symbol at that address, the same ones in every mode.
    let (raw, perf, named) = (stack(text, "kraw"), stack(text, "kperf"), stack(text, "k\n"));
    assert!(raw.len() > 1 && raw.len() == perf.len() && raw.len() == named.len(), "{text}");
    for ((raw, perf), named) in raw.iter().zip(&perf).zip(&named) {
        assert_eq!(perf.len().min(17), 17, "{text}");
        assert_eq!(address(raw), address(&perf[..16]), "{text}");
        assert!(perf[17..].starts_with(named), "{perf} and {named}");
        assert!(raw.starts_with("ffff"), "{text}");
    }
    let three = stack(text, "kthree");
    assert_eq!(three, named[..named.len().min(3)], "{text}");

    // Of the process: the function that it made, and whoever called it.
    let (raw, perf, named) = (stack(text, "uraw"), stack(text, "uperf"), stack(text, "u\n"));
    assert!(raw.len() > 1 && raw.len() == perf.len(), "{text}");
    assert_eq!(named[0], format!("compiled here{BEHIND_THE_CALL}"), "{text}");
    assert_eq!(stack(text, "uone"), named[..1], "{text}");
    let (at, symbol) = perf[0].split_at(16);
    assert_eq!(address(at), address(raw[0]), "{text}");
    let rest = symbol.strip_prefix(&format!(" {} (", named[0])).unwrap_or_else(|| panic!("{text}"));
    assert!(rest.ends_with(')') && rest.len() > 1, "{text}");
    assert!(perf[1].ends_with(')') && perf[1].contains('/'), "the caller is in a file: {text}");
    // Code without a file has no build id.
    assert_eq!(stack(text, "ubuild")[0], format!("0x{}", raw[0]), "{text}");
}

/// What a thread does that is called as the programs of the next case want it.
fn busy() {
    for round in 0..200 {
        let _ = rustix::process::getpgid(rustix::process::Pid::from_raw(0x5cec));
        let (reader, writer) = rustix::pipe::pipe().expect("there are descriptors");
        rustix::io::write(&writer, b"x").expect("it has room");
        rustix::io::read(&reader, &mut [0; 8]).expect("something is in it");
        let memory = vec![1u8; 1 << 20];
        assert_eq!(memory[round], 1);
        std::thread::sleep(std::time::Duration::from_micros(300));
        std::thread::yield_now();
    }
    // Whoever joins a thread goes on before the thread has switched for the last time: by then nobody may count it any more.
    rustix::thread::set_name(c"kstk-over").expect("a thread may name itself");
}

/// Compares what a script and a program in C that asks the kernel count of one thread; the script numbers its probes as the program does.
fn the_same_stacks(program: &str, script: &str) {
    let kernel = Skep::run(&[case(program).as_os_str(), "--json".as_ref()]);
    let walking = Skep::start(&mut command(&[], &[OsStr::new("trace"), script.as_ref()]));
    let thread = std::thread::Builder::new().name("kstk-case".to_owned());
    thread.spawn(busy).expect("there is room for a thread").join().expect("it works");
    for skep in [&kernel, &walking] {
        skep.signal(rustix::process::Signal::INT);
    }
    let mut theirs: BTreeMap<(u64, Vec<u64>), u64> = BTreeMap::new();
    for line in kernel.end().stdout.lines() {
        let entry: Value = serde_json::from_str(line).expect("a line is an object");
        let number = |value: &Value| value.as_u64().expect("a number");
        let frames = entry["key"]["frames"].as_array().expect("an array").iter().map(number);
        let key = (number(&entry["key"]["probe"]), frames.take_while(|frame| *frame != 0).collect());
        theirs.insert(key, number(&entry["value"]));
    }
    let mut ours = BTreeMap::new();
    for block in walking.end().stdout.split("@[").skip(1) {
        let (key, count) = block.split_once("]: ").expect("a key ends");
        let (probe, frames) = key.split_once(',').expect("a key has two parts");
        let key = (probe.parse().expect("a number"), frames.split_whitespace().map(address).collect::<Vec<_>>());
        ours.insert(key, count.trim().parse::<u64>().expect("a number"));
    }
    assert!(theirs.len() > 5 && theirs.keys().any(|(probe, frames)| *probe == 2 && frames.len() > 3), "{theirs:?}");
    for (key, count) in &theirs {
        assert_eq!(ours.get(key), Some(count), "{key:x?}");
    }
    assert_eq!(ours.len(), theirs.len(), "{ours:x?}");
    // Where the kernel has what that needs, the program has walked.
    let walks = cfg!(target_arch = "x86_64")
        && Member("orc_entry", "sp_offset").is_met()
        && skep_sys::version::KernelVersion::running() >= skep_sys::version::KernelVersion::new(6, 12, 0);
    let code = call(&["trace", "-d", "ir", script]).stdout;
    assert_eq!(code.contains("@kernel_round"), walks, "{code}");
}

#[test]
fn a_program_walks_the_kernels_stack_as_the_kernel_does() {
    if !needs(&[Root]) {
        return;
    }
    let script = r#"
        tracepoint:syscalls:sys_enter_getpgid /comm == "kstk-case"/ { @[1, kstack(raw, 40)] = count(); }
        tracepoint:sched:sched_switch /comm == "kstk-case"/ { @[2, kstack(raw, 40)] = count(); }
        tracepoint:timer:hrtimer_start /comm == "kstk-case"/ { @[3, kstack(raw, 40)] = count(); }
        tracepoint:kmem:mm_page_alloc /comm == "kstk-case"/ { @[4, kstack(raw, 40)] = count(); }"#;
    the_same_stacks("kernel_stack", script);
}

#[test]
fn a_program_walks_the_kernels_stack_from_functions() {
    if !needs(&[Root, Kprobes]) {
        return;
    }
    let script = r#"
        kprobe:ksys_write /comm == "kstk-case"/ { @[1, kstack(raw, 40)] = count(); }
        kprobe:hrtimer_start_range_ns /comm == "kstk-case"/ { @[2, kstack(raw, 40)] = count(); }
        kprobe:try_to_wake_up /comm == "kstk-case"/ { @[3, kstack(raw, 40)] = count(); }"#;
    the_same_stacks("kernel_stack_kprobe", script);
}

#[test]
fn stacks_in_loops_load_however_deep_the_loops_are() {
    if !needs(&[Root]) {
        return;
    }
    // A kernel takes eight functions that called each other: the program, six loops and what stores a stack are all of them.
    for depth in 1..=6 {
        let loops: String = (0..depth).map(|at| format!("for ($i{at} : 0..2) {{ ")).collect();
        let script =
            format!("tracepoint:sched:sched_switch {{ {loops} @[kstack(2)] = count(); {} }}", "} ".repeat(depth));
        let loaded = call(&["trace", "--dry-run", &script]);
        assert_eq!((loaded.status.code(), loaded.stderr.as_str()), (Some(0), ""), "{script}");
    }
}

#[test]
fn a_build_id_is_the_one_of_the_file() {
    if !needs(&[Root, Program("bash")]) {
        return;
    }
    let file = std::fs::read("/bin/bash").expect("there is bash");
    let script = r#"uprobe:/bin/bash:main /pid == cpid/ { printf("<one%s>\n", ustack(build_id, 1)); @["x", ustack(build_id, 1)] = count(); }"#;
    let out = call(&["trace", "-c", "/bin/bash -c true", script]);
    let lines = stack(&out.stdout, "one");
    let [line] = lines[..] else { panic!("{}\n{}", out.stdout, out.stderr) };
    let Some((id, offset)) = line.split_once(" 0x") else { panic!("{}\n{}", out.stdout, out.stderr) };
    assert!(u64::from_str_radix(offset, 16).is_ok_and(|offset| offset < file.len() as u64), "{line}");
    let digits = id.as_bytes().as_chunks::<2>().0.iter();
    let bytes = digits.map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).expect("hex digits"));
    // Notes have the name of their owner right before what they say.
    let note: Vec<u8> = b"GNU\0".iter().copied().chain(bytes).collect();
    assert!(note.len() > 8 && file.windows(note.len()).any(|window| window == note), "{id}");
    // The same one as a key, with the key's indent.
    assert!(out.stdout.contains(&format!("@[x, \n    {line}\n]: 1\n")), "{}", out.stdout);
}

#[test]
fn a_mode_that_is_none_is_told() {
    let out = call(&["trace", "begin { print(kstack(dwarf)); }"]);
    assert!(!out.status.success());
    assert!(out.stderr.contains("Invalid stack mode: dwarf"), "{}", out.stderr);
}

/// A C program's ids of stacks, in an event and in the key of a map, have their frames beside them.
#[test]
fn ids_of_stacks_are_shown_with_their_frames() {
    if !needs(&[Root, Program("python3")]) {
        return;
    }
    if !cfg!(target_arch = "x86_64") {
        println!("skipped: needs x86_64");
        return;
    }
    let program = scratch("stack-ids").join("compiler.py");
    std::fs::write(&program, COMPILER).expect("the folder is ours");
    let object = case("stack_ids");
    let command = format!("python3 {}", program.display());
    let out = call(&[
        "run".as_ref(),
        object.as_os_str(),
        "--json".as_ref(),
        "--maps".as_ref(),
        "exit".as_ref(),
        "-c".as_ref(),
        command.as_ref(),
    ]);
    assert!(out.status.success(), "{}", out.stderr);
    let lines: Vec<Value> = out.stdout.lines().map(|line| serde_json::from_str(line).expect("it is JSON")).collect();
    let event = lines.iter().find(|line| line["source"] == "events").unwrap_or_else(|| panic!("{}", out.stdout));
    // The process has written it; the run ends with the process, so it is ours to remove.
    let map = format!("/tmp/perf-{}.map", event["pid"]);
    std::fs::remove_file(&map).unwrap_or_else(|error| panic!("{map}: {error}"));
    let entry = lines.iter().find(|line| line["map"] == "askers").unwrap_or_else(|| panic!("{}", out.stdout));
    let frames = |of: &Value| -> Vec<String> {
        of.as_array().into_iter().flatten().filter_map(|frame| Some(frame.as_str()?.to_owned())).collect()
    };
    let user = frames(&event["stacks"]["user_stack_id"]);
    assert_eq!(user.first().map(String::as_str), Some(&*format!("compiled here{BEHIND_THE_CALL}")), "{event}");
    assert_eq!(frames(&entry["stacks"]["stackid"]), user, "{entry}");
    let kernel = frames(&event["stacks"]["kern_stack_id"]);
    assert!(kernel.iter().any(|frame| frame.starts_with("entry_SYSCALL_64_after_hwframe+")), "{event}");
}
