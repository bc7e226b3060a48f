//! Where programs are attached, and what has no source here.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use skep_engine::{AttachOptions, Error, ErrorKind, Link, PerfEvent, TcDirection};
use skep_spec::nearest::did_you_mean;
use skep_spec::{AttachPoint, ProgId, ProgType, Program};
use skep_sys::syscalls;

use crate::probe::{Kept, Probe};
use crate::process::{Hook, Tracing, check_sampling};
use crate::timer::{self, Timer};

/// A place where programs run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A tracepoint, whose record is the context.
    Tracepoint {
        /// Category, such as `syscalls`.
        category: String,
        /// Event, such as `sys_enter_write`.
        name: String,
    },
    /// A raw tracepoint, whose arguments are the context.
    RawTracepoint {
        /// Event, such as `sys_enter`.
        name: String,
    },
    /// The first to see a packet.
    Xdp,
    /// Behind XDP.
    Tc {
        /// Coming in or going out; a file's packets come in.
        direction: TcDirection,
    },
    /// A copy of what passes.
    Socket,
    /// A function of a program or library, or a USDT probe.
    Probe(Arc<Probe>),
    /// A clock.
    Interval {
        /// From one tick to the next.
        period: Duration,
    },
    /// A clock or a counter of the CPU, while a process runs.
    Sampled {
        /// What is counted.
        event: PerfEvent,
    },
}

impl Place {
    /// What kind of place it is, in a word or two.
    pub fn word(&self) -> &'static str {
        match self {
            Place::Tracepoint { .. } => "tracepoint",
            Place::RawTracepoint { .. } => "raw tracepoint",
            Place::Xdp => "xdp",
            Place::Tc { direction: TcDirection::Ingress } => "tc ingress",
            Place::Tc { direction: TcDirection::Egress } => "tc egress",
            Place::Socket => "socket filter",
            Place::Probe(_) => "uprobe",
            Place::Interval { .. } => "interval",
            Place::Sampled { .. } => "perf event",
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Tracepoint { category, name } => write!(f, "tracepoint {category}:{name}"),
            Place::RawTracepoint { name } => write!(f, "raw tracepoint {name}"),
            Place::Probe(probe) => f.write_str(&probe.described),
            Place::Interval { period } => write!(f, "interval of {period:?}"),
            Place::Sampled { event } => write!(f, "perf event {}:{}", event.kind, event.config),
            _ => f.write_str(self.word()),
        }
    }
}

/// An attached program.
#[derive(Clone, Debug)]
pub struct Attached {
    id: u64,
    /// Which.
    pub program: ProgId,
    /// Where.
    pub place: Place,
    /// What the program gets from `bpf_get_attach_cookie`.
    pub cookie: u64,
}

impl Attached {
    /// One that is in no list, since it makes itself run.
    pub(crate) fn alone(program: ProgId, place: Place, cookie: u64) -> Attached {
        Attached { id: 0, program, place, cookie }
    }
}

/// Which programs are attached where. Sources of events ask it; links are taken out when they are dropped.
#[derive(Debug, Default)]
pub struct Hooks {
    all: RwLock<Arc<[Attached]>>,
    changes: AtomicU64,
    /// Number of the next one.
    next: AtomicU64,
}

impl Hooks {
    /// All that are attached, in the order in which they were.
    pub fn all(&self) -> Arc<[Attached]> {
        self.all.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Those at one place.
    pub fn at(&self, place: &Place) -> Vec<Attached> {
        self.all().iter().filter(|attached| attached.place == *place).cloned().collect()
    }

    /// How often something was attached or detached: a source that keeps a list looks whether it still holds.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Attached>)) {
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        let mut list = all.to_vec();
        change(&mut list);
        *all = list.into();
        self.changes.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn add(hooks: &Arc<Hooks>, program: ProgId, place: Place, options: &AttachOptions) -> UserLink {
        let id = hooks.next.fetch_add(1, Ordering::Relaxed);
        let attached = Attached { id, program, place, cookie: options.cookie };
        let described = attached.place.to_string();
        let (timer, sampled, kept) = (None, None, Kept::default());
        let link = UserLink { hooks: hooks.clone(), id: attached.id, described, timer, sampled, kept };
        hooks.change(|all| all.push(attached));
        link
    }
}

/// A program that is attached until this is dropped.
#[derive(Debug)]
pub(crate) struct UserLink {
    hooks: Arc<Hooks>,
    id: u64,
    described: String,
    /// What makes it run, if that is its own.
    timer: Option<Timer>,
    /// Who has samples for it that it has not seen.
    sampled: Option<Tracing>,
    /// What a probe needs while it is attached.
    kept: Kept,
}

impl UserLink {
    /// Runs by a timer, which ends with the link.
    pub(crate) fn timed(mut self, timer: Timer) -> UserLink {
        self.timer = Some(timer);
        self
    }

    /// Runs for samples, all of which it sees before the link ends.
    pub(crate) fn sampled(mut self, tracing: Tracing) -> UserLink {
        self.sampled = Some(tracing);
        self
    }

    /// With what its probe needs.
    pub(crate) fn keeping(mut self, kept: Kept) -> UserLink {
        self.kept = kept;
        self
    }
}

impl Link for UserLink {
    fn notes(&self) -> &[String] {
        &self.kept.notes
    }

    fn describe(&self) -> String {
        self.described.clone()
    }

    fn detach(self: Box<Self>) -> Result<(), Error> {
        Ok(())
    }

    fn pin(&mut self, _: &std::path::Path) -> Result<(), Error> {
        Err(Error::new(format!("{} ends with this process and cannot be pinned", self.described))
            .with_kind(ErrorKind::Unsupported))
    }
}

impl Drop for UserLink {
    fn drop(&mut self) {
        drop(self.timer.take());
        if let Some(tracing) = &self.sampled {
            tracing.drain();
        }
        self.hooks.change(|all| all.retain(|attached| attached.id != self.id));
        // Their descriptions are others' from now on.
        self.kept.leases.clear();
    }
}

/// Where events come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sources {
    /// From a file of packets, or a network.
    pub(crate) has_packets: bool,
    /// From a tracer.
    pub(crate) has_processes: bool,
}

/// Where a program goes.
///
/// # Errors
///
/// When nothing in user space makes such events: with what does.
pub(crate) fn place(program: &Program, options: &AttachOptions, sources: Sources) -> Result<Place, Error> {
    let packets = |place| {
        if sources.has_packets {
            return Ok(place);
        }
        Err(refused(program, "packets come from a file or a network of one's own in user space, and none was given")
            .with_kind(ErrorKind::NeedsOption)
            .with_hint("give a file with `--pcap FILE`, a network to a command with `--tap -c COMMAND`, or one packet with `--data HEX`"))
    };
    let traced = |place: Place| match Hook::at(&place) {
        None => Err(unknown(program, &place)),
        Some(_) if sources.has_processes => Ok(place),
        Some(_) => Err(unnamed(program)),
    };
    match &program.attach {
        AttachPoint::Xdp => packets(Place::Xdp),
        AttachPoint::Tc { direction } => {
            let direction = direction.or(options.tc_direction).unwrap_or(TcDirection::Ingress);
            packets(Place::Tc { direction })
        }
        AttachPoint::Socket if program.prog_type == ProgType::SOCKET_FILTER => packets(Place::Socket),
        AttachPoint::Tracepoint { category, name } => traced(match target_of(options) {
            Some((category, name)) => Place::Tracepoint { category, name },
            None => Place::Tracepoint { category: category.clone(), name: name.clone() },
        }),
        AttachPoint::RawTracepoint { name } => {
            traced(Place::RawTracepoint { name: options.target.clone().unwrap_or_else(|| name.clone()) })
        }
        AttachPoint::PerfEvent => match timer::period(options) {
            Some(period) => Ok(Place::Interval { period }),
            None => {
                let event = options.sampled();
                let place = traced(Place::Sampled { event })?;
                let failed =
                    |error: Error| error.about(format_args!("program `{}` ({})", program.name, program.section));
                check_sampling(&event).map_err(failed)?;
                Ok(place)
            }
        },
        AttachPoint::Uprobe { .. } | AttachPoint::UprobeMulti { .. } | AttachPoint::Usdt { .. }
            if !sources.has_processes =>
        {
            Err(unnamed(program))
        }
        other => Err(no_source(program, other)),
    }
}

/// What is said when nobody is traced.
fn unnamed(program: &Program) -> Error {
    refused(program, "only processes of your own are seen in user space, and none was named")
        .with_kind(ErrorKind::NeedsOption)
        .with_hint("start one with `-c COMMAND`, or name one with `-p PID`; `--engine kernel` sees all, as root")
}

/// What is said of a tracepoint that no tracer sees: near names, if it should be one of system calls.
fn unknown(program: &Program, place: &Place) -> Error {
    let name = match place {
        Place::Tracepoint { category, name } if category == "syscalls" => name,
        _ => return no_source(program, &program.attach),
    };
    let error = refused(program, &format!("there is no tracepoint syscalls:{name}")).with_kind(ErrorKind::Absent);
    let known = syscalls::all().map(|(_, call)| syscalls::tracepoint(call));
    let known: Vec<String> = known.flat_map(|call| [format!("sys_enter_{call}"), format!("sys_exit_{call}")]).collect();
    match did_you_mean(name, known.iter().map(String::as_str)) {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// The tracepoint that the user wants in place of the section's.
fn target_of(options: &AttachOptions) -> Option<(String, String)> {
    let (category, name) = options.target.as_deref()?.split_once([':', '/'])?;
    Some((category.to_owned(), name.to_owned()))
}

fn refused(program: &Program, why: &str) -> Error {
    Error::new(format!("program `{}` ({}) cannot be attached: {why}", program.name, program.section))
}

/// Says what is missing, and what comes nearest.
fn no_source(program: &Program, attach: &AttachPoint) -> Error {
    const SYSCALL: &str = "a tracepoint of the system call behind it";
    let (what, nearest) = match attach {
        AttachPoint::Kprobe { .. } | AttachPoint::KprobeMulti { .. } => {
            ("functions of the kernel are not seen in user space", SYSCALL)
        }
        AttachPoint::Ksyscall { name, ret } => {
            let when = if *ret { "exit" } else { "enter" };
            return unsupported(
                program,
                "functions of the kernel are not seen in user space",
                &format!("`tracepoint/syscalls/sys_{when}_{name}` tells of the same call"),
            );
        }
        AttachPoint::Function { .. } | AttachPoint::FunctionMulti { .. } => {
            ("functions of the kernel are not seen in user space", SYSCALL)
        }
        AttachPoint::BtfTracepoint { name } => {
            return unsupported(
                program,
                "its arguments are structures of the kernel, which are not seen in user space",
                &format!("a tracepoint has them as numbers and texts: look at `skep list '*{name}*'`"),
            );
        }
        AttachPoint::Lsm { .. } => ("decisions of the kernel are not made in user space", SYSCALL),
        AttachPoint::Tracepoint { category, .. } => {
            return unsupported(
                program,
                &format!("nothing in user space makes events of `{category}`"),
                "there are `syscalls`, `raw_syscalls`, `sched:sched_process_fork`, `_exec` and `_exit`, and `signal:signal_deliver`",
            );
        }
        AttachPoint::RawTracepoint { .. } => {
            ("nothing in user space makes events of this raw tracepoint", "`raw_tracepoint/sys_enter` and `sys_exit`")
        }
        AttachPoint::Netkit | AttachPoint::Cgroup | AttachPoint::Netfilter | AttachPoint::NetNamespace => {
            ("no traffic of the kernel is seen in user space", "a `tc` or `xdp` program with `--pcap FILE`")
        }
        AttachPoint::SockMap | AttachPoint::Socket => {
            ("sockets of the kernel are not seen in user space", "a `socket` filter with `--pcap FILE`")
        }
        AttachPoint::Iter { .. } => ("structures of the kernel are not seen in user space", "the files of /proc"),
        AttachPoint::Freplace { .. } | AttachPoint::StructOps => {
            ("the kernel calls such programs, and nobody else", "a program of another type")
        }
        AttachPoint::Lirc => ("infrared receivers belong to the kernel", "`--ctx HEX`, which runs it once"),
        _ => ("nothing in user space makes such events", "`--ctx HEX`, which runs it once"),
    };
    unsupported(program, what, &format!("what comes nearest is {nearest}"))
}

fn unsupported(program: &Program, what: &str, nearest: &str) -> Error {
    refused(program, what)
        .with_kind(ErrorKind::Unsupported)
        .with_hint(format!("{nearest}; `--engine kernel` attaches it, as root"))
}
