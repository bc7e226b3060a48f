//! `--engine user`: what tracing without rights costs the traced, beside strace; and packets of a file.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::running::skep;
use crate::{paths, sh};

/// Calls that the target makes, and how often each case is run; the least counts, since others share the machine.
const CALLS: u64 = 100_000;
const ROUNDS: usize = 5;
/// Packets of the file, and how often it is played.
const PACKETS: usize = 2_000_000;

/// A program that makes one system call again and again, or calls one function, and prints the nanoseconds of one.
const TARGET: &str = r#"
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

__attribute__((noinline)) long hit(long n)
{
	__asm__ volatile("" : "+r"(n));
	return n + 1;
}

int main(int argc, char **argv)
{
	long calls = atol(argv[1]);
	struct timespec start, end;

	clock_gettime(CLOCK_MONOTONIC, &start);
	if (argc > 2)
		for (long i = 0; i < calls;)
			i = hit(i);
	else
		for (long i = 0; i < calls; i++)
			syscall(SYS_getppid);
	clock_gettime(CLOCK_MONOTONIC, &end);
	printf("%.1f\n", ((end.tv_sec - start.tv_sec) * 1e9 + (end.tv_nsec - start.tv_nsec)) / calls);
	return 0;
}
"#;

/// As examples/xdp_drop_icmp.bpf.c, without its lines of text.
const DROP_ICMP: &str = r#"
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int drop_icmp(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *data_end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);

	if ((void *)(ip + 1) > data_end || eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	return ip->protocol == IPPROTO_ICMP ? XDP_DROP : XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
"#;

/// Measures, prints, and says whether the limits hold.
pub(super) fn bench() -> Result<bool> {
    let skep = skep()?;
    let dir = paths::target().join("bench-user");
    fs::create_dir_all(&dir)?;
    let target = target(&dir)?;
    let traced = |script: &str, calls: &str| -> Result<f64> {
        let mut command = Command::new(&skep);
        command.args(["trace", "-q", "--engine", "user", script, "-c"]).arg(format!("{} {calls}", target.display()));
        least(&mut command)
    };
    let calls = CALLS.to_string();
    let stops = dir.join("stops");
    let source = paths::root().join("tests/bench/stops.c");
    sh::run(Command::new("gcc").args(["-O2", "-o"]).arg(&stops).arg(source))?;
    let stops = |what: &str, calls: &str| least(Command::new(&stops).args([what, calls]));
    let many = (CALLS * 20).to_string();
    let bare = least(Command::new(&target).arg(&many))?;
    let unwanted = traced("tracepoint:syscalls:sys_enter_mkdir { @ = count(); }", &many)? - bare;
    let enter = traced("tracepoint:syscalls:sys_enter_getppid { @ = count(); }", &calls)? - bare;
    let both = traced(
        "tracepoint:syscalls:sys_enter_getppid { @a = count(); } tracepoint:syscalls:sys_exit_getppid { @b = count(); }",
        &calls,
    )? - bare;
    let function =
        traced(&format!("uprobe:{}:hit {{ @ = count(); }}", target.display()), &format!("{calls} function"))?;
    let mut strace = Command::new("strace");
    strace.args(["-f", "-e", "trace=getppid", "-o", "/dev/null"]).arg(&target).arg(CALLS.to_string());
    let strace = least(&mut strace)? - bare;
    let silent = dir.join("drop_icmp.bpf.c");
    fs::write(&silent, DROP_ICMP)?;
    let packets = played(&skep, &dir, &silent)?;
    let telling = played(&skep, &dir, &paths::root().join("examples/xdp_drop_icmp.bpf.c"))?;

    println!("{:34} {:>12} {:>12} {:>12} {:>12}", "added to a call", "ns", "limit", "bare tracer", "times that");
    let mut good = true;
    for (name, ns, limit, floor) in [
        ("not wanted", unwanted, 20.0, stops("unwanted", &many)? - bare),
        ("wanted as it starts", enter, 4000.0, stops("enter", &calls)? - bare),
        ("and as it ends", both, 7500.0, stops("both", &calls)? - bare),
        ("a function (uprobe)", function, 7000.0, stops("function", &calls)?),
    ] {
        println!("{name:34} {ns:>12.0} {limit:>12.0} {floor:>12.0} {:>12.2}", ns / floor);
        good &= ns <= limit;
    }
    println!("{:34} {strace:>12.0}", "strace");
    println!("strace costs {:.2} times as much as start and end (limit: 1.7 at least)", strace / both);
    good &= strace / both >= 1.7;
    let (compiling, compiled) = first_row(&skep)?;
    println!(
        "first row of README's first command in a bare container: {:.0} ms compiled before (limit: 100), {:.0} ms at first",
        compiled.as_secs_f64() * 1e3,
        compiling.as_secs_f64() * 1e3
    );
    good &= compiled <= Duration::from_millis(100);
    println!("packets of a file through xdp: {packets:.0} a second (limit: 5,000,000 at least)");
    println!("and with a line of text for each: {telling:.0} a second");
    Ok(good && packets >= 5e6)
}

/// How long it takes from the start of skep to its first row of an exec, for a user who may do nothing and sees no file of the kernel: the first time, and the
/// shortest with everything in the cache.
fn first_row(skep: &Path) -> Result<(Duration, Duration)> {
    const INSIDE: &str = "mount -t tmpfs none /sys && exec unshare --user --map-user=65534 --map-group=65534 -- \"$@\"";
    // Folders of root's are closed to others.
    let dir = std::env::temp_dir().join(format!("skep-bench-{}", std::process::id()));
    fs::create_dir_all(&dir)?;
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777))?;
    let (copy, program) = (dir.join("skep"), dir.join("execsnoop.bpf.c"));
    fs::copy(skep, &copy)?;
    fs::copy(paths::root().join("examples/execsnoop.bpf.c"), &program)?;
    let once = || -> Result<Duration> {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", INSIDE, "sh"]).arg(&copy).arg("run");
        // Getting into the container, some milliseconds, counts as well.
        command.arg(&program).args(["-c", "sh -c true"]).env("XDG_CACHE_HOME", dir.join("cache"));
        if rustix::process::geteuid().is_root() {
            command.uid(65534).gid(65534);
        }
        let start = Instant::now();
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("it has an output")?).lines();
        let row = lines.find(|line| line.as_ref().is_ok_and(|line| line.ends_with("sh -c true")));
        let took = start.elapsed();
        child.wait()?;
        row.context("no row: are user namespaces for everybody, and is clang there?")??;
        Ok(took)
    };
    let first = once()?;
    let mut least = Duration::MAX;
    for _ in 0..ROUNDS {
        least = least.min(once()?);
    }
    fs::remove_dir_all(&dir)?;
    Ok((first, least))
}

fn target(dir: &Path) -> Result<PathBuf> {
    let source = dir.join("calls.c");
    let target = dir.join("calls");
    fs::write(&source, TARGET)?;
    sh::run(Command::new("gcc").args(["-O2", "-o"]).arg(&target).arg(&source))?;
    Ok(target)
}

/// The least that the target printed.
fn least(command: &mut Command) -> Result<f64> {
    let mut least = f64::INFINITY;
    for _ in 0..ROUNDS {
        let output = command.stderr(Stdio::inherit()).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let ns: f64 = text
            .lines()
            .find_map(|line| line.trim().parse().ok())
            .with_context(|| format!("`{}` printed no number: {text}", sh::line(command)))?;
        least = least.min(ns);
    }
    Ok(least)
}

/// Packets a second of XDP over a file, as skep says at the end.
fn played(skep: &Path, dir: &Path, program: &Path) -> Result<f64> {
    let file = dir.join("packets.pcap");
    let mut bytes = Vec::with_capacity(24 + PACKETS * 90);
    for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65535, 1] {
        bytes.extend(word.to_le_bytes());
    }
    for index in 0..PACKETS {
        let mut packet = [0u8; 74];
        packet[12..14].copy_from_slice(&[8, 0]);
        (packet[14], packet[17], packet[22]) = (0x45, 60, 64);
        // One in eight is a ping, the others are TCP.
        packet[23] = if index % 8 == 0 { 1 } else { 6 };
        for word in [index as u32, 0, 74, 74] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(packet);
    }
    fs::write(&file, bytes)?;
    let mut best = 0.0f64;
    for _ in 0..ROUNDS {
        let mut command = Command::new(skep);
        command.args(["run", "--engine", "user"]).arg(program).arg("--pcap").arg(&file).stdout(Stdio::null());
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        let rate = said.lines().find_map(|line| line.rsplit(", ").next()?.strip_suffix(" packets per second"));
        let Some(rate) = rate.and_then(|rate| rate.parse::<f64>().ok()) else {
            bail!("`{}` says no rate:\n{said}", sh::line(&command));
        };
        best = best.max(rate);
    }
    fs::remove_file(file)?;
    Ok(best)
}
