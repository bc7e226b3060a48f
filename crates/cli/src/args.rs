//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use skep_engine::{NetfilterFamily, NetfilterHook, NetfilterStage};
use skep_run::options::{parse_duration, parse_size};

/// Write, compile, check, run and watch eBPF programs.
#[derive(Debug, Parser)]
#[command(name = "skep", version, max_term_width = 100)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run an eBPF program in C (`.bpf.c`) or an object (`.bpf.o`) and show what it tells.
    Run(Box<RunArgs>),
    /// Run a tracing script: `skep trace 'tracepoint:syscalls:sys_enter_openat { @[comm] = count(); }'`.
    Trace(Box<TraceArgs>),
    /// Make one file of several: a tool of a tracing script, which needs nothing else, or an object of C files and objects.
    Build(Box<BuildArgs>),
    /// List what scripts can trace.
    List(ListArgs),
    /// Load objects, attach nothing, and let go: one line per program.
    Load(LoadArgs),
    /// Say what this machine can do, and what to do about the rest.
    Doctor(DoctorArgs),
    /// The machine that runs programs in user space, by itself.
    #[command(hide = true)]
    Vm(VmArgs),
}

/// Globals declared `const volatile` are set by name: `--min_us 100`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Every other `--NAME VALUE` sets the global variable NAME of the program.")]
pub(crate) struct RunArgs {
    /// C source or object; the content decides.
    pub(crate) file: PathBuf,
    /// More of them, to be linked to it.
    #[arg(value_name = "FILE")]
    pub(crate) linked: Vec<PathBuf>,
    /// Keyring with the certificate of who signed a loader program: `session`, `builtin`, `secondary`, `platform`, or its number.
    #[arg(long, default_value = "session", value_parser = keyring, allow_negative_numbers = true)]
    pub(crate) keyring: i32,
    /// Types of the kernel (BTF) from this file, for CO-RE on a kernel that was built without.
    #[arg(long, value_name = "FILE")]
    pub(crate) btf: Option<PathBuf>,
    /// What runs the programs. `auto`: the kernel where it gives the right, else the machine in user space.
    #[arg(long, value_enum, value_name = "ENGINE")]
    pub(crate) engine: Option<EngineChoice>,
    /// Send the packets of a file (pcap, pcapng; `-` is standard input) through xdp, tc and socket filter programs, in user space.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["iface", "data", "ctx", "repeat"])]
    pub(crate) pcap: Option<PathBuf>,
    /// Write the packets that pass to this file (pcap).
    #[arg(long, value_name = "FILE", requires = "pcap")]
    pub(crate) pcap_out: Option<PathBuf>,
    /// Give the command a network of its own, whose packets pass the xdp, tc and socket filter programs, in user space: it is 192.0.2.2, and 192.0.2.1
    /// answers.
    #[arg(long, requires = "command", conflicts_with_all = ["iface", "pcap", "data", "ctx", "repeat", "pid"])]
    pub(crate) tap: bool,
    /// Run this at the other end of that network, a server for example, until the run ends.
    #[arg(long, value_name = "CMD", requires = "tap")]
    pub(crate) far: Option<String>,
    /// Attach nothing, but run one program on this packet: a file, or bytes in hex.
    #[arg(long, value_name = "FILE|HEX", conflicts_with_all = ["iface", "command", "pid"])]
    pub(crate) data: Option<String>,
    /// As `--data`, with this context structure.
    #[arg(long, value_name = "FILE|HEX", conflicts_with_all = ["iface", "command", "pid"])]
    pub(crate) ctx: Option<String>,
    /// As `--data`, so many times.
    #[arg(long, value_name = "N", conflicts_with_all = ["iface", "command", "pid"], allow_negative_numbers = true, value_parser = whole::<u32>)]
    pub(crate) repeat: Option<u32>,
    /// Network interface for xdp and tc programs.
    #[arg(long, short, value_name = "IF")]
    pub(crate) iface: Option<String>,
    /// How xdp programs sit on the interface.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) xdp_mode: XdpMode,
    /// Binary or library for uprobes and USDT probes.
    #[arg(long, value_name = "PATH")]
    pub(crate) bin: Option<PathBuf>,
    /// Only this process; the run ends when it does.
    #[arg(short, long, value_name = "PID", allow_negative_numbers = true, value_parser = whole::<u32>)]
    pub(crate) pid: Option<u32>,
    /// Run a command, and stop when it ends.
    #[arg(short, long, value_name = "CMD")]
    pub(crate) command: Option<String>,
    /// Folder of the cgroup v2 for cgroup programs.
    #[arg(long, value_name = "DIR")]
    pub(crate) cgroup: Option<PathBuf>,
    /// Infrared receiver for lirc_mode2 programs.
    #[arg(long, value_name = "DEV")]
    pub(crate) receiver: Option<PathBuf>,
    /// Network namespace for sk_lookup and flow dissector programs.
    #[arg(long, value_name = "PATH")]
    pub(crate) netns: Option<PathBuf>,
    /// Where programs go whose section does not say, such as `SEC("kprobe")`: what would stand behind its slash.
    #[arg(long, value_name = "PLACE")]
    pub(crate) attach_to: Option<String>,
    /// Id of the loaded program whose functions freplace programs replace.
    #[arg(long, value_name = "PROG_ID")]
    pub(crate) replace_in: Option<u32>,
    /// Hook of netfilter programs: `[ip|ip6:]prerouting`, `input`, `forward`, `output` or `postrouting`.
    #[arg(long, value_name = "HOOK", value_parser = parse_hook)]
    pub(crate) hook: Option<NetfilterHook>,
    /// Priority of netfilter programs, or of tc programs before kernel 6.6: lower numbers run first.
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, allow_negative_numbers = true)]
    pub(crate) priority: i32,
    /// Map of the object whose sockets sk_skb and sk_msg programs are for, or that an iterator walks.
    #[arg(long, value_name = "NAME")]
    pub(crate) map: Option<String>,
    /// Samples per second of perf_event programs.
    #[arg(
        long,
        value_name = "HZ",
        default_value_t = 0,
        hide_default_value = true,
        allow_negative_numbers = true,
        value_parser = whole::<u64>
    )]
    pub(crate) hz: u64,
    /// Size of perf buffers for each CPU: `256K` when not given, or `4M`. Ring buffers have the size of their map.
    #[arg(long, value_name = "SIZE", default_value_t = 0, hide_default_value = true, value_parser = parse_size)]
    pub(crate) perf_buffer: usize,
    /// Only this program of the object; may be given several times.
    #[arg(long, visible_alias = "program", value_name = "NAME")]
    pub(crate) prog: Vec<String>,
    /// Set the global NAME, when skep has a flag of that name itself.
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) set: Vec<String>,
    /// Stop after this time: `5s`, `500ms`, `2m`.
    #[arg(long, value_name = "T", allow_negative_numbers = true, value_parser = parse_duration)]
    pub(crate) duration: Option<Duration>,
    /// Stop after so many events.
    #[arg(short = 'n', value_name = "EVENTS", allow_negative_numbers = true, value_parser = whole::<u64>)]
    pub(crate) max_events: Option<u64>,
    /// One JSON object per line.
    #[arg(long)]
    pub(crate) json: bool,
    /// Whether maps are shown at the end.
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    pub(crate) maps: Maps,
    /// Folder for `#include`.
    #[arg(short = 'I', value_name = "DIR")]
    pub(crate) include: Vec<PathBuf>,
    /// Macro for the compiler.
    #[arg(short = 'D', value_name = "NAME[=VALUE]")]
    pub(crate) define: Vec<String>,
    /// Say what is compiled, loaded, attached and left out.
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

/// Reads a netfilter hook as `nft` spells it.
fn parse_hook(text: &str) -> Result<NetfilterHook, String> {
    let (family, stage) = text.split_once(':').unwrap_or(("ip", text));
    let family = match family {
        "ip" => NetfilterFamily::Ipv4,
        "ip6" => NetfilterFamily::Ipv6,
        other => return Err(format!("`{other}` is not a family; use ip or ip6")),
    };
    let hook = match stage {
        "prerouting" => NetfilterStage::Prerouting,
        "input" => NetfilterStage::Input,
        "forward" => NetfilterStage::Forward,
        "output" => NetfilterStage::Output,
        "postrouting" => NetfilterStage::Postrouting,
        other => {
            return Err(format!("`{other}` is not a hook; use prerouting, input, forward, output or postrouting"));
        }
    };
    Ok(NetfilterHook { family, hook })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum EngineChoice {
    /// The running kernel.
    Kernel,
    /// The machine in user space, which needs no rights.
    User,
    /// The kernel where it gives the right, else user space; says which, and why.
    Auto,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum XdpMode {
    /// In the driver if it can, else generic.
    #[default]
    Auto,
    /// In the driver.
    Native,
    /// After the packet became an skb.
    Generic,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum Maps {
    /// If the programs have nothing else to tell.
    #[default]
    Auto,
    /// Not at all.
    Never,
    /// Always.
    Exit,
}

/// The language is bpftrace's.
#[derive(Debug, clap::Args)]
pub(crate) struct TraceArgs {
    /// The script itself, or a file that has it; `-` is standard input.
    pub(crate) script: String,
    /// The script is the text itself, whatever files there are. bpftrace wants to be told; here it need not be said.
    #[arg(short = 'e')]
    pub(crate) is_text: bool,
    /// Its parameters `$1`, `$2` ...
    pub(crate) params: Vec<String>,
    /// Behind `--`: its own options, as `--name=value`.
    #[arg(last = true)]
    pub(crate) options: Vec<String>,
    #[command(flatten)]
    pub(crate) how: HowArgs,
    #[command(flatten)]
    pub(crate) what: WhatArgs,
    /// Write the script in its usual form.
    #[arg(long)]
    pub(crate) fmt: bool,
    /// Show a stage of the compiler: `ast`, `types`, `ir`, `dis`, `all`.
    #[arg(short, long, value_name = "STAGE")]
    pub(crate) debug: Option<String>,
    /// Write the programs as an object, and run nothing.
    #[arg(long, alias = "emit-elf", value_name = "FILE")]
    pub(crate) emit: Option<PathBuf>,
}

/// What becomes a part of a script.
#[derive(Debug, clap::Args)]
pub(crate) struct WhatArgs {
    /// Allow what changes the machine: `system`, `signal`, `override`, `write_user`.
    #[arg(long = "unsafe")]
    pub(crate) allow_unsafe: bool,
    /// Folder for `#include` and `import`.
    #[arg(short = 'I', value_name = "DIR")]
    pub(crate) include_dir: Vec<PathBuf>,
    /// File to include before the script.
    #[arg(long, value_name = "FILE")]
    pub(crate) include: Vec<PathBuf>,
    /// Set a key of the script's configuration.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) config: Vec<String>,
}

/// How a script runs.
#[derive(Debug, clap::Args)]
pub(crate) struct HowArgs {
    /// Only this process, until it ends.
    #[arg(short, long, value_name = "PID", allow_negative_numbers = true, value_parser = whole::<u32>)]
    pub(crate) pid: Option<u32>,
    /// Processes whose stacks `dw_ustack` can walk from the first event on, beside that of `-p` and `-c`.
    #[arg(long, value_name = "PID", value_delimiter = ',', allow_negative_numbers = true, value_parser = whole::<u32>)]
    pub(crate) dwarf_pid: Vec<u32>,
    /// Run a command, and stop when it ends.
    #[arg(short, long, value_name = "CMD")]
    pub(crate) command: Option<String>,
    /// What runs the programs. `auto`: the kernel where it gives the right, else the machine in user space.
    #[arg(long, value_enum, value_name = "ENGINE")]
    pub(crate) engine: Option<EngineChoice>,
    /// Only the process of `-p` or `-c`, and every process that comes from it.
    #[arg(long)]
    pub(crate) follow: bool,
    /// Only processes in this cgroup and below it.
    #[arg(long, value_name = "PATH", conflicts_with = "container")]
    pub(crate) cgroup: Option<PathBuf>,
    /// Only processes in this container, by name or id.
    #[arg(long, value_name = "NAME|ID")]
    pub(crate) container: Option<String>,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) format: TraceFormat,
    /// Write to this file.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// When output is handed on.
    #[arg(short = 'B', long, value_enum, default_value_t, value_name = "WHEN")]
    pub(crate) buffer: Buffer,
    /// Stop after this time: `5s`, `500ms`, `2m`.
    #[arg(long, value_name = "T", allow_negative_numbers = true, value_parser = parse_duration)]
    pub(crate) duration: Option<Duration>,
    /// Tell every helper that fails, reads of memory included.
    #[arg(short = 'k', long)]
    pub(crate) helper_errors: bool,
    /// No warnings.
    #[arg(long)]
    pub(crate) no_warnings: bool,
    /// Neither warnings nor what is attached.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Compile and load, attach nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Say what is loaded: the kernel's ids of the programs, their types and sizes.
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

/// A script becomes a tool: skep itself with the script behind it, which needs nothing else and fits the kernel that it is started on.
/// C files are compiled, and linked with each other and with objects to one object.
#[derive(Debug, clap::Args)]
pub(crate) struct BuildArgs {
    /// A script, a C file or an object.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Behind a script: parameters `$1`, `$2` ... to try it with; the tool takes its own. Behind C or an object: more of them.
    #[arg(value_name = "FILE|PARAM")]
    pub(crate) more: Vec<String>,
    /// Behind `--`: options to try a script with, as `--name=value`.
    #[arg(last = true)]
    pub(crate) options: Vec<String>,
    /// Where it is written to. When not given: a script's name without `.bt`, a single C file's with `.o`.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Macro for the compiler.
    #[arg(short = 'D', value_name = "NAME[=VALUE]")]
    pub(crate) define: Vec<String>,
    /// Write no object, but the part of this kernel's types (BTF) that C files and objects need, for `skep run --btf`.
    #[arg(long, value_name = "KERNEL_BTF", requires = "output")]
    pub(crate) min_btf: Option<PathBuf>,
    /// The kernel's types, when those after `--min-btf` are of a module of it (/sys/kernel/btf/MODULE), which continue them. The
    /// result has what is needed of both.
    #[arg(long, value_name = "KERNEL_BTF", requires = "min_btf")]
    pub(crate) base_btf: Option<PathBuf>,
    /// Put a loader program behind the object: `skep run` and `skep load` then let the kernel make the maps, answer the CO-RE records and
    /// load the programs by itself (kernel 5.17).
    #[arg(long, requires = "output", conflicts_with = "min_btf")]
    pub(crate) loader: bool,
    #[command(flatten)]
    pub(crate) seal: SealArgs,
    /// For another machine: build although this one lacks a probe or a type.
    #[arg(long)]
    pub(crate) elsewhere: bool,
    #[command(flatten)]
    pub(crate) what: WhatArgs,
}

/// Loader programs that nobody can change.
#[derive(Debug, clap::Args)]
pub(crate) struct SealArgs {
    /// Seal the loader program: it runs on its own data only, so nothing of the object can be changed or set any more (kernel 6.18).
    #[arg(long, requires = "loader")]
    pub(crate) seal: bool,
    /// Seal it, and write its instructions to this file. Who signs them signs the object: `openssl cms -sign -binary -noattr -nocerts -outform DER
    /// -md sha256 -signer CERT -inkey KEY -in FILE -out SIGNATURE`.
    #[arg(long, value_name = "FILE", requires = "loader")]
    pub(crate) to_sign: Option<PathBuf>,
    /// Seal it with this signature (PKCS#7, DER) of what `--to-sign` writes. The kernel checks it whenever the program is loaded.
    #[arg(long, value_name = "FILE", requires = "loader")]
    pub(crate) signature: Option<PathBuf>,
}

fn keyring(text: &str) -> Result<i32, String> {
    match text {
        "session" => Ok(skep_kernel::SESSION_KEYRING),
        "builtin" => Ok(0),
        "secondary" => Ok(1),
        "platform" => Ok(2),
        _ => text
            .parse()
            .map_err(|_| format!("`{text}` is no keyring: session, builtin, secondary, platform, or a number")),
    }
}

/// What every tool takes beside the options of its script.
#[derive(Debug, clap::Args)]
pub(crate) struct ToolArgs {
    /// Parameters of the script.
    #[arg(allow_negative_numbers = true)]
    pub(crate) params: Vec<String>,
    /// Behind `--`: more parameters, and options of the script as `--name=value`.
    #[arg(last = true)]
    pub(crate) options: Vec<String>,
    #[command(flatten)]
    pub(crate) how: HowArgs,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum TraceFormat {
    /// As bpftrace prints.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
    /// Maps as comma separated values.
    Csv,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum Buffer {
    /// When there is nothing more to print at the moment.
    #[default]
    Line,
    /// In large pieces.
    Full,
    /// After each record.
    None,
}

/// A pattern is an attach point such as `tracepoint:sched:*`, or any part of one such as `*sleep*`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Pattern, script, or `struct NAME`; everything when not given.
    pub(crate) pattern: Vec<String>,
    /// With the arguments of each probe.
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// Binaries as this process sees them.
    #[arg(short, long, value_name = "PID", allow_negative_numbers = true, value_parser = whole::<u32>)]
    pub(crate) pid: Option<u32>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct LoadArgs {
    /// Objects.
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Try every program with only itself switched on.
    #[arg(long)]
    pub(crate) each: bool,
    /// Link them to one object first.
    #[arg(long)]
    pub(crate) link: bool,
    /// Keyring with the certificate of who signed a loader program: `session`, `builtin`, `secondary`, `platform`, or its number.
    #[arg(long, default_value = "session", value_parser = keyring, allow_negative_numbers = true)]
    pub(crate) keyring: i32,
    /// Types of the kernel (BTF) from this file, for CO-RE on a kernel that was built without.
    #[arg(long, value_name = "FILE")]
    pub(crate) btf: Option<PathBuf>,
    /// Give maps without a size the one that an application would set.
    #[arg(long)]
    pub(crate) fix_sizes: bool,
    /// One JSON object per program.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    /// One JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct VmArgs {
    #[command(subcommand)]
    pub(crate) command: VmCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum VmCommand {
    /// Run one program, given as hex digits on standard input, and write its r0 in hex: a plugin for the public conformance suite.
    Conformance(ConformanceArgs),
}

/// Helper 5 gives back its first argument.
#[derive(Debug, clap::Args)]
pub(crate) struct ConformanceArgs {
    /// Input memory as hex digits: r1 is its address and r2 its length. Without it both are 0.
    pub(crate) mem: Option<String>,
    /// Use the interpreter, as without any option.
    #[arg(long)]
    pub(crate) interpret: bool,
    /// Compile the program for this processor first.
    #[arg(long, conflicts_with = "interpret")]
    pub(crate) jit: bool,
}

/// A number that counts something.
fn whole<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("`{text}` is not a whole number in range"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn numbers_that_make_no_sense_are_called_that() {
        for typed in ["-n -3", "-n many", "-p -1", "-p 99999999999", "--hz -1", "--duration -1"] {
            let words = ["skep", "run", "x.bpf.o"].into_iter().chain(typed.split(' '));
            let error = Args::try_parse_from(words).unwrap_err().to_string();
            assert!(error.contains("is not a whole number in range") || error.contains("is not a "), "{error}");
        }
    }

    #[test]
    fn hooks_are_spelt_as_in_nft() {
        let hook = |family, hook| Ok(NetfilterHook { family, hook });
        assert_eq!(parse_hook("input"), hook(NetfilterFamily::Ipv4, NetfilterStage::Input));
        assert_eq!(parse_hook("ip6:postrouting"), hook(NetfilterFamily::Ipv6, NetfilterStage::Postrouting));
        assert!(parse_hook("arp:input").unwrap_err().contains("`arp`"));
        assert!(parse_hook("ip:inptu").unwrap_err().contains("`inptu`"));
    }

    #[test]
    fn a_priority_may_be_negative() {
        let args = Args::try_parse_from(["skep", "run", "x.o", "--hook", "ip6:input", "--priority", "-100"]).unwrap();
        let Command::Run(run) = args.command else { panic!("{args:?}") };
        assert_eq!(run.priority, -100);
    }

    #[test]
    fn the_definition_is_consistent() {
        Args::command().debug_assert();
    }
}
