//! Programs in the kernel, apart from an object: pinned ones, those that others loaded, their statistics and test runs.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use skep_engine::{AttachOptions, Error, ErrorKind, ProgramStream, TestRun, TestRunOutput};
use skep_spec::section::SectionTable;
use skep_spec::{AttachPoint, FuncId, ProgType, Program};
use skep_sys::Errno;
use skep_sys::bpf::{self, ProgFd};
use skep_sys::version::KernelVersion;

use crate::attach::{self, Attachment};
use crate::map::{failed, path_string, pin};

/// A program that is loaded.
#[derive(Debug)]
pub struct KernelProgram {
    fd: ProgFd,
    id: u32,
    name: String,
    prog_type: ProgType,
}

/// What the kernel counted about a program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProgramStats {
    /// How often it ran while statistics were on ([`Statistics`]; kernel 5.1).
    pub runs: u64,
    /// How long that took in all.
    pub run_time: Duration,
    /// How often it did not run because it would have interrupted itself (kernel 5.12).
    pub recursion_misses: u64,
    /// Instructions that the verifier looked at (kernel 5.16).
    pub verified_insns: u32,
}

/// While this value lives the kernel counts the runs of every program and their time (kernel 5.8), which costs each run some
/// 20 ns. Needs `CAP_SYS_ADMIN`.
#[derive(Debug)]
pub struct Statistics {
    #[expect(dead_code, reason = "held for its drop")]
    fd: OwnedFd,
}

impl Statistics {
    /// Begins to count.
    ///
    /// # Errors
    ///
    /// When the right is missing or the kernel is older.
    pub fn enable() -> Result<Statistics, Error> {
        let fd = bpf::enable_stats().map_err(|errno| failed("cannot switch on the statistics of programs", errno))?;
        Ok(Statistics { fd })
    }
}

impl ProgramStats {
    pub(crate) fn from_info(info: &bpf::ProgInfo) -> ProgramStats {
        ProgramStats {
            runs: info.run_cnt,
            run_time: Duration::from_nanos(info.run_time_ns),
            recursion_misses: info.recursion_misses,
            verified_insns: info.verified_insns,
        }
    }
}

impl KernelProgram {
    /// A program that is pinned in a bpffs.
    ///
    /// # Errors
    ///
    /// When there is nothing at `path`, or something else.
    pub fn from_pinned(path: &Path) -> Result<KernelProgram, Error> {
        match bpf::obj_get(None, &path_string(path)?, 0) {
            Ok(bpf::Object::Prog(fd)) => KernelProgram::known(fd),
            Ok(_) => Err(Error::new(format!("{} is pinned, but is not a program", path.display()))),
            Err(errno) => Err(failed(&format!("cannot open the pinned program {}", path.display()), errno)),
        }
    }

    /// A program by its id, as `bpftool prog` numbers them. Needs `CAP_SYS_ADMIN`.
    ///
    /// # Errors
    ///
    /// When there is none of that id, or the right is missing.
    pub fn from_id(id: u32) -> Result<KernelProgram, Error> {
        let fd = ProgFd::from_id(bpf::ProgId(id)).map_err(|errno| match errno {
            Errno::ENOENT => Error::new(format!("there is no program with id {id}")).with_source(errno),
            _ => failed(&format!("cannot open the program with id {id}"), errno),
        })?;
        KernelProgram::known(fd)
    }

    /// A program by a descriptor from elsewhere.
    ///
    /// # Errors
    ///
    /// When it is no program.
    pub fn from_fd(fd: OwnedFd) -> Result<KernelProgram, Error> {
        KernelProgram::known(ProgFd::from_fd(fd).map_err(|errno| failed("this descriptor is no program", errno))?)
    }

    /// As [`KernelProgram::from_fd`], with the name that an object has for it, of which the kernel keeps 15 bytes.
    ///
    /// # Errors
    ///
    /// When it is no program.
    pub fn named(fd: OwnedFd, name: &str) -> Result<KernelProgram, Error> {
        Ok(KernelProgram { name: name.to_owned(), ..KernelProgram::from_fd(fd)? })
    }

    pub(crate) fn known(fd: ProgFd) -> Result<KernelProgram, Error> {
        let info = fd.info().map_err(|errno| failed("the kernel does not tell about the program", errno))?;
        Ok(KernelProgram { fd, id: info.id.0, name: info.name, prog_type: ProgType(info.prog_type) })
    }

    /// Its name as the kernel keeps it: 15 bytes of it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Its type.
    pub fn prog_type(&self) -> ProgType {
        self.prog_type
    }

    /// Gives it a name in a bpffs, where it outlives this process.
    ///
    /// # Errors
    ///
    /// When the path is not in a bpffs, or taken.
    pub fn pin(&self, path: &Path) -> Result<(), Error> {
        pin_program(self.fd.as_fd(), &self.name, path)
    }

    /// What was counted about it.
    ///
    /// # Errors
    ///
    /// When the kernel does not tell.
    pub fn stats(&self) -> Result<ProgramStats, Error> {
        stats(self.fd.as_fd(), &self.name)
    }

    /// Runs it on given input (`BPF_PROG_TEST_RUN`).
    ///
    /// # Errors
    ///
    /// When the kernel has no test run for its type, or the input does not fit.
    pub fn test_run(&self, input: &TestRun<'_>) -> Result<TestRunOutput, Error> {
        test_run(&self.fd, self.prog_type, &self.name, input)
    }

    /// What it wrote to one of its streams since the last reading, by whomever; empty when that is nothing (kernel 6.17).
    ///
    /// # Errors
    ///
    /// When the kernel has no streams.
    pub fn read_stream(&self, stream: ProgramStream) -> Result<Vec<u8>, Error> {
        read_stream(self.fd.as_fd(), &self.name, stream)
    }

    /// Attaches it where `section` (`xdp`, `tp/sched/sched_switch`) and `options` say: a loaded program does not know the
    /// section that it came from.
    ///
    /// # Errors
    ///
    /// When the section is for programs of another type, and as [`attach::attach`].
    pub fn attach_as(&self, section: &str, options: &AttachOptions) -> Result<Attachment, Error> {
        let meaning = SectionTable::new().lookup(section);
        let same = meaning.prog_type == self.prog_type
            // The kernel knows some sections by the way in which their programs are attached alone.
            || (meaning.prog_type == ProgType::SCHED_ACT && self.prog_type == ProgType::SCHED_CLS);
        if matches!(meaning.attach, AttachPoint::None) || !same {
            return Err(Error::new(format!(
                "program `{}` is of type {}, which section `{section}` is not for",
                self.name, self.prog_type
            )));
        }
        let program = Program {
            attach: meaning.attach,
            attach_type: meaning.attach_type,
            ..Program::new(&self.name, FuncId(0), section, self.prog_type)
        };
        attach::attach(&program, self.fd.as_fd(), &attach::Options::from_engine(options))
    }
}

impl AsFd for KernelProgram {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Every program on the machine, in the order of ids. Needs `CAP_SYS_ADMIN`. What goes away while it is listed is passed over.
pub fn all() -> impl Iterator<Item = Result<KernelProgram, Error>> {
    bpf::ProgId::all().filter_map(|id| match id.and_then(ProgFd::from_id) {
        Err(Errno::ENOENT) => None,
        Err(errno) => Some(Err(failed("cannot list the programs", errno))),
        Ok(fd) => Some(KernelProgram::known(fd)),
    })
}

/// Gives a program a name in a bpffs.
///
/// # Errors
///
/// When the path is not in a bpffs, or taken.
pub fn pin_program(fd: BorrowedFd<'_>, name: &str, path: &Path) -> Result<(), Error> {
    pin(fd, path, &format!("program `{name}`"))
}

/// Lets a program hold a map that none of its instructions names, so that it lives as long as the program and tools find it there
/// (kernel 5.10). Once is enough; again is no error.
///
/// # Errors
///
/// When the kernel is older.
pub fn bind_map(prog: BorrowedFd<'_>, name: &str, map: BorrowedFd<'_>) -> Result<(), Error> {
    bpf::prog_bind_map(prog, map).map_err(|errno| {
        let error = failed(&format!("cannot bind a map to program `{name}`"), errno);
        let old = KernelVersion::running() < KernelVersion::new(5, 10, 0);
        if old { error.with_kind(ErrorKind::Unsupported).with_hint("that needs kernel 5.10") } else { error }
    })
}

/// What the kernel counted about a program.
///
/// # Errors
///
/// When the kernel does not tell.
pub fn stats(fd: BorrowedFd<'_>, name: &str) -> Result<ProgramStats, Error> {
    let info = bpf::ProgInfo::of(fd)
        .map_err(|errno| failed(&format!("the kernel does not tell about program `{name}`"), errno))?;
    Ok(ProgramStats::from_info(&info))
}

/// Reads a stream of a program until it is empty: the kernel keeps at most 100,000 bytes of each (`BPF_STREAM_MAX_CAPACITY`,
/// kernel/bpf/stream.c, 6.17), and drops what does not fit.
pub(crate) fn read_stream(prog: BorrowedFd<'_>, name: &str, stream: ProgramStream) -> Result<Vec<u8>, Error> {
    const PIECE: usize = 4096;
    let mut text = Vec::new();
    // A program that writes without pause does not keep us here.
    while text.len() < 100_000 {
        let filled = text.len();
        text.resize(filled + PIECE, 0);
        match bpf::prog_stream_read(prog, stream as u32, &mut text[filled..]) {
            Ok(read) => {
                text.truncate(filled + read.min(PIECE));
                if read == 0 {
                    break;
                }
            }
            Err(errno) => {
                let error = failed(&format!("cannot read the streams of program `{name}`"), errno);
                return Err(match errno {
                    Errno::EINVAL => {
                        error.with_kind(ErrorKind::Unsupported).with_hint("streams of programs need kernel 6.17")
                    }
                    _ => error,
                });
            }
        }
    }
    Ok(text)
}

/// `BPF_PROG_TEST_RUN`. Room for output is what went in and a page more, since programs may make packets longer.
pub(crate) fn test_run(
    prog: &ProgFd,
    prog_type: ProgType,
    name: &str,
    input: &TestRun<'_>,
) -> Result<TestRunOutput, Error> {
    let refused = |errno| {
        let error = failed(&format!("cannot run program `{name}`"), errno);
        match errno {
            Errno::ENOTSUPP | Errno::EOPNOTSUPP => {
                error.with_hint(format!("this kernel does not run programs of type {prog_type} on request"))
            }
            Errno::EINVAL if input.cpu.is_some() => {
                error.with_hint("only raw tracepoints (raw_tp, tp_btf) run on a CPU of the caller's choice")
            }
            Errno::ENXIO => error.with_hint("that CPU is not there, or offline"),
            Errno::EINVAL if input.data.is_empty() && input.ctx.is_empty() => {
                error.with_hint("programs that look at packets want at least 14 bytes of one")
            }
            _ => error,
        }
    };
    if prog_type == ProgType::SYSCALL {
        let mut ctx = input.ctx.to_vec();
        let retval = prog.run_syscall(&mut ctx).map_err(refused)?;
        return Ok(TestRunOutput { retval, data: Vec::new(), ctx, duration: Duration::ZERO });
    }
    let room = |given: &[u8]| if given.is_empty() { Vec::new() } else { vec![0; given.len() + 4096] };
    let (mut data, mut ctx) = (room(input.data), room(input.ctx));
    let outcome = prog
        .test_run(&mut bpf::TestRun {
            data_in: input.data,
            data_out: &mut data,
            ctx_in: input.ctx,
            ctx_out: if takes_ctx_out(prog_type) { &mut ctx } else { &mut [] },
            // Types that run on one CPU of the caller's choice refuse a count.
            repeat: if takes_repeat(prog_type) { input.repeat } else { 0 },
            cpu: input.cpu.unwrap_or_default(),
            flags: if input.cpu.is_some() { bpf::flags::F_TEST_RUN_ON_CPU } else { 0 },
            ..bpf::TestRun::default()
        })
        .map_err(refused)?;
    data.truncate(outcome.data_len);
    ctx.truncate(if takes_ctx_out(prog_type) { outcome.ctx_len } else { 0 });
    Ok(TestRunOutput { retval: outcome.retval, data, ctx, duration: Duration::from_nanos(outcome.duration_ns.into()) })
}

/// Types whose context comes back (`bpf_ctx_finish` in net/bpf/test_run.c).
fn takes_ctx_out(of: ProgType) -> bool {
    ![ProgType::RAW_TRACEPOINT, ProgType::RAW_TRACEPOINT_WRITABLE, ProgType::TRACING].contains(&of)
}

/// Types that may be run several times at once.
fn takes_repeat(of: ProgType) -> bool {
    takes_ctx_out(of)
}
