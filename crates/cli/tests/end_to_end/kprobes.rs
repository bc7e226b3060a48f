//! Programs on functions of the kernel. They need a kernel with kprobes, so most of them run in the virtual machines.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use skep_sys::bpf::{MapFd, MapId};

use crate::support::needs::Need::{Clang, Fentry, Kprobes, Root};
use crate::support::programs::both;
use crate::support::{Skep, document, example, needs, scratch, skep};

/// Makes a file in a folder of its own and deletes it by `rm`; the process id of `rm`.
fn delete(path: &Path) -> u32 {
    std::fs::write(path, "x").expect("the folder can be written to");
    let mut rm = Command::new("rm").arg(path).spawn().expect("there is rm");
    let pid = rm.id();
    assert!(rm.wait().expect("our own child can be waited for").success());
    pid
}

/// The document's program sees process 39228 alone: here is one with that id.
#[test]
fn a_system_calls_function_tells_who_writes() {
    if !needs(&[Root, Kprobes]) {
        return;
    }
    let Some(program) = document("03-kprobe-write/test") else { return };
    let skep = Skep::run(&[program]);
    // Ids are given out in turn; only our own machine may be told where to go on.
    std::fs::write("/proc/sys/kernel/pid_max", "65536").unwrap();
    let mut seen = 0;
    for _ in 0..20 {
        std::fs::write("/proc/sys/kernel/ns_last_pid", "39227").unwrap();
        let mut child =
            Command::new("sh").args(["-c", "echo x"]).stdout(Stdio::null()).spawn().expect("there is a shell");
        seen = child.id();
        child.wait().unwrap();
        if seen == 39228 {
            break;
        }
    }
    assert_eq!(seen, 39228);
    skep.line_ending("pid= 39228,name:sh. writing data");
    skep.stop();
}

/// Parameters after the first one are garbage unless a macro fetches them.
#[test]
fn parameters_that_hold_garbage_are_pointed_out() {
    if !needs(&[Clang]) {
        return;
    }
    let dir = scratch("garbage");
    let source = dir.join("garbage.bpf.c");
    let text = r#"#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("kprobe/__x64_sys_write")
int kprobe_write(struct pt_regs *ctx, int fd, const void *buf, unsigned long count)
{
	bpf_printk("fd %d\n", fd);
	return 0;
}
char LICENSE[] SEC("license") = "GPL";
"#;
    std::fs::write(&source, text).unwrap();
    let outcome = skep::call(&["run".as_ref(), source.as_os_str(), "--duration".as_ref(), "10ms".as_ref()]);
    let warning = outcome.stderr.lines().next().unwrap_or_default();
    assert!(
        warning.ends_with("`kprobe_write` is called with its context alone, so `fd`, `buf`, `count` hold garbage"),
        "{warning}"
    );
    assert!(outcome.stderr.contains("= help: declare it as `int BPF_K"), "{}", outcome.stderr);
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn deleted_files_are_told_at_entry_and_return() {
    if !needs(&[Root, Kprobes]) {
        return;
    }
    let dir = scratch("unlink");
    for program in both("kprobe_unlink", "08-kprobe-unlink/kprobe") {
        let skep = Skep::run(&[program]);
        let file = dir.join("x");
        let pid = delete(&file);
        skep.line_ending(&format!("KPROBE ENTRY pid = {pid}, filename = {}", file.display()));
        skep.line_ending(&format!("KPROBE EXIT: pid = {pid}, ret = 0"));
        skep.stop();
    }
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn deleted_files_are_rows_of_a_table() {
    if !needs(&[Root, Kprobes]) {
        return;
    }
    let dir = scratch("unlink-rows");
    let skep = Skep::run(&[example("kprobe_unlink_ringbuf")]);
    let file = dir.join("x");
    let path = file.display().to_string();
    let pid = delete(&file).to_string();
    let entry = skep.line("of the entry", |line| line.contains("ENTER") && line.contains(&path));
    let exit = skep.line("of the return", |line| line.contains("EXIT") && line.contains(&path));
    for row in [entry, exit] {
        assert!(row.split_whitespace().any(|word| word == pid), "{row}");
    }
    let header: Vec<String> = skep.lines()[0].split_whitespace().map(str::to_owned).collect();
    for column in ["TIME", "EVENT", "PID", "RET", "FILENAME"] {
        assert!(header.iter().any(|name| name == column), "no {column} in {header:?}");
    }
    skep.stop();
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn fexit_has_arguments_and_result() {
    if !needs(&[Root, Fentry]) {
        return;
    }
    let dir = scratch("fexit");
    let skep = Skep::run(&[example("fexit_unlink")]);
    let file = dir.join("x");
    let pid = delete(&file).to_string();
    skep.row(&[&pid, "0", &file.display().to_string()]);
    let missing = dir.join("nosuch");
    let _ = Command::new("rm").arg(&missing).stderr(Stdio::null()).status();
    // rm may look before it deletes; unlink does not.
    assert!(std::fs::remove_file(&missing).is_err());
    let us = std::process::id().to_string();
    skep.row(&[&us, "-ENOENT", &missing.display().to_string()]);
    skep.stop();
    std::fs::remove_dir_all(dir).unwrap();
}

/// The message comes out of a map that user space writes while the program runs.
#[test]
fn a_message_per_user_comes_from_a_map() {
    if !needs(&[Root, Kprobes]) {
        return;
    }
    let skep = Skep::run(&[example("hello_buffer_config")]);
    let run = || {
        let mut child = Command::new("/bin/true").spawn().expect("there is true");
        let pid = child.id().to_string();
        child.wait().expect("our own child can be waited for");
        pid
    };
    let pid = run();
    let row = skep.line("of our process", |line| line.split_whitespace().any(|word| word == pid));
    assert!(row.ends_with("Hello World"), "{row}");
    assert!(row.contains("/bin/true"), "{row}");

    let config = skep.held().maps.iter().find_map(|&id| {
        let map = MapFd::from_id(MapId(id)).ok()?;
        (map.info().ok()?.name == "my_config").then_some(map)
    });
    let config = config.expect("the program has a map my_config");
    config.update(&0u32.to_ne_bytes(), b"Hey root!\0\0\0", 0).unwrap();
    let pid = run();
    let row = skep.line("of our second process", |line| line.split_whitespace().any(|word| word == pid));
    assert!(row.ends_with("Hey root!"), "{row}");
    let header: Vec<String> = skep.lines()[0].split_whitespace().map(str::to_owned).collect();
    assert_eq!(header, ["TIME", "PID", "UID", "COMMAND", "PATH", "MESSAGE"]);
    skep.stop();
}

/// A program that others call through a program array is loaded, but not attached by itself.
#[test]
fn a_tail_call_target_is_not_attached() {
    if !needs(&[Root, Kprobes]) {
        return;
    }
    for program in both("tail_call", "07-tail-call/tail_call_test") {
        let skep = Skep::run(&[program]);
        let talk = skep.talk().join("\n");
        assert!(talk.contains("not attached: `output_socket_meta`"), "{talk}");
        assert!(talk.contains("attached `enter_tcp_set_state`"), "{talk}");
        assert_eq!(skep.held().programs.len(), 2);
        skep.stop();
    }
}

/// The library's own example: it fills the jump table, which the object leaves to the application.
#[test]
fn the_librarys_example_shows_both_ends_of_a_connection() {
    if !needs(&[Root, Kprobes]) {
        return;
    }
    let example_binary = Path::new(env!("CARGO_BIN_EXE_skep")).with_file_name("examples").join("tail_call");
    for object in both("tail_call", "07-tail-call/tail_call_test") {
        let mut child = Command::new(&example_binary)
            .arg(&object)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", example_binary.display()));
        let mut errors = child.stderr.take().unwrap();
        let mut first = [0; 64];
        // "waiting for events" says that it is attached.
        let n = errors.read(&mut first).unwrap();
        let said = String::from_utf8_lossy(&first[..n]).into_owned();
        assert!(said.contains("waiting for events"), "{said}");
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(server.local_addr().unwrap()).unwrap();
        let (mut accepted, _) = server.accept().unwrap();
        client.write_all(b"x").unwrap();
        accepted.read_exact(&mut [0]).unwrap();
        let (near, far) = (client.local_addr().unwrap(), server.local_addr().unwrap());
        let mut text = String::new();
        let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
        let wanted = [format!("{near} -> {far}\n"), format!("{far} -> {near}\n")];
        while !wanted.iter().all(|line| text.contains(line)) {
            let read = std::io::BufRead::read_line(&mut out, &mut text).unwrap();
            assert!(read > 0, "it ended after:\n{text}");
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

/// On a kernel without kprobes the message says so, and what to use instead.
#[test]
fn a_kernel_without_kprobes_is_named_as_such() {
    if !needs(&[Root]) {
        return;
    }
    if Kprobes.is_met() {
        println!("skipped: needs a kernel without kprobes");
        return;
    }
    let outcome = skep::call(&["run".as_ref(), example("kprobe_unlink").as_os_str()]);
    assert_eq!(outcome.status.code(), Some(1), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("CONFIG_KPROBES"), "{}", outcome.stderr);
}
