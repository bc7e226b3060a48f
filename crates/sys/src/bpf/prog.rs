//! Programs: load, run on request, attach without a link, ask what is attached.
//!
//! # Safety
//!
//! Addresses in the attributes are those of slices borrowed for the call, with their own lengths. Descriptors inside the
//! instructions and in `fd_array` are numbers to the kernel: a wrong one is refused, never written to.
#![expect(unsafe_code, reason = "passes borrowed buffers to bpf(2)")]

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::attr::{self, Attr as _};
use super::{ProgId, ProgInfo, addr, addr_mut, call, call_fd, cmd, fd_newtype, flags, len, obj_name, raw};
use crate::Errno;

/// What the verifier writes: 1 for the path it walked, 2 for every state, 4 for the closing statistics (kernel 5.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LogLevel(pub u32);

impl LogLevel {
    /// Instructions as they are verified.
    pub const BRIEF: LogLevel = LogLevel(1);
    /// And the registers at each of them.
    pub const VERBOSE: LogLevel = LogLevel(2);
    /// Only the counts at the end.
    pub const STATS: LogLevel = LogLevel(4);
}

/// Where the kernel explains itself. Too small a buffer fails the load with `ENOSPC`, even of a good program.
#[derive(Debug)]
pub struct Log<'a> {
    /// How much is written.
    pub level: LogLevel,
    /// Room for the text and its closing zero; at least 128 bytes before kernel 6.4.
    pub buf: &'a mut [u8],
}

/// What `BPF_PROG_LOAD` takes. Start from `Default` and set what differs.
#[derive(Debug, Default)]
pub struct ProgLoad<'a> {
    /// `enum bpf_prog_type`.
    pub prog_type: u32,
    /// Instructions of 8 bytes each.
    pub insns: &'a [u8],
    /// Such as `GPL`.
    pub license: &'a CStr,
    /// Cut to 15 bytes. Leave empty before kernel 4.15.
    pub name: &'a str,
    /// Where the kernel explains a refusal.
    pub log: Option<Log<'a>>,
    /// `LINUX_VERSION_CODE`, which kernels before 5.0 compare for kprobes.
    pub kern_version: u32,
    /// `flags::F_*` for programs.
    pub prog_flags: u32,
    /// Device that the program is offloaded or bound to.
    pub ifindex: u32,
    /// `enum bpf_attach_type`.
    pub expected_attach_type: u32,
    /// BTF of the program's own object.
    pub btf: Option<BorrowedFd<'a>>,
    /// Records of `func_info_rec_size` bytes.
    pub func_info: &'a [u8],
    /// Bytes per record.
    pub func_info_rec_size: u32,
    /// Records of `line_info_rec_size` bytes.
    pub line_info: &'a [u8],
    /// Bytes per record.
    pub line_info_rec_size: u32,
    /// Kernel type of what is attached to.
    pub attach_btf_id: u32,
    /// Program (for freplace, or tracing a program) or module BTF in which `attach_btf_id` counts.
    pub attach_to: Option<BorrowedFd<'a>>,
    /// Descriptors that instructions name by index: module BTF for kfuncs.
    pub fd_array: &'a [i32],
    /// Whether the kernel is told the length of `fd_array` (kernel 6.14): it then binds its maps and BTF to the program.
    pub fd_array_bound: bool,
    /// A delegated right.
    pub token: Option<BorrowedFd<'a>>,
    /// A PKCS#7 message about the instructions (kernel 6.18).
    pub signature: &'a [u8],
    /// Number of the keyring with the certificate that it must be signed by, such as `KEY_SPEC_SESSION_KEYRING` (-3), or one of the
    /// kernel's own: 0 has those that it was built with, 1 those that were added to them, 2 those of the platform.
    pub keyring: i32,
}

impl ProgLoad<'_> {
    /// Has the program verified. The second part is the size that the log would have needed (kernel 6.4, else 0).
    ///
    /// `EAGAIN` means that a signal interrupted the verifier; it is tried five times.
    pub fn load(&mut self) -> (Result<ProgFd, Errno>, u32) {
        let mut a = attr::ProgLoad::zeroed();
        let mut result = self.fill(&mut a).and_then(|()| Self::attempt(&mut a));
        for _ in 0..5 {
            if !matches!(result, Err(Errno::EAGAIN)) {
                break;
            }
            result = Self::attempt(&mut a);
        }
        (result.map(ProgFd::from_kernel), a.log_true_size)
    }

    fn attempt(a: &mut attr::ProgLoad) -> Result<OwnedFd, Errno> {
        // SAFETY: `fill` took every address and length from slices that `self` borrows; the log is borrowed mutably.
        unsafe { call_fd(cmd::PROG_LOAD, a) }
    }

    fn fill(&mut self, a: &mut attr::ProgLoad) -> Result<(), Errno> {
        if !self.insns.len().is_multiple_of(8) {
            return Err(Errno::EINVAL);
        }
        a.prog_type = self.prog_type;
        a.insn_cnt = len(self.insns)? / 8;
        a.insns = addr(self.insns);
        a.license = self.license.as_ptr().expose_provenance() as u64;
        if let Some(log) = &mut self.log {
            a.log_level = log.level.0;
            a.log_size = len(log.buf)?;
            a.log_buf = addr_mut(log.buf);
        }
        a.kern_version = self.kern_version;
        a.prog_flags = self.prog_flags;
        a.prog_name = obj_name(self.name);
        a.prog_ifindex = self.ifindex;
        a.expected_attach_type = self.expected_attach_type;
        a.prog_btf_fd = super::raw_or_zero(self.btf);
        (a.func_info, a.func_info_cnt) = records(self.func_info, self.func_info_rec_size)?;
        a.func_info_rec_size = if a.func_info_cnt > 0 { self.func_info_rec_size } else { 0 };
        (a.line_info, a.line_info_cnt) = records(self.line_info, self.line_info_rec_size)?;
        a.line_info_rec_size = if a.line_info_cnt > 0 { self.line_info_rec_size } else { 0 };
        a.attach_btf_id = self.attach_btf_id;
        a.attach_prog_fd = super::raw_or_zero(self.attach_to);
        a.fd_array = addr(self.fd_array);
        if self.fd_array_bound {
            a.fd_array_cnt = len(self.fd_array)?;
        } else if !self.fd_array.is_empty() {
            check_fd_array(self.insns, self.fd_array.len())?;
        }
        if !self.signature.is_empty() {
            a.signature = addr(self.signature);
            a.signature_size = len(self.signature)?;
            a.keyring_id = self.keyring;
        }
        if let Some(token) = self.token {
            a.prog_flags |= flags::F_TOKEN_FD;
            a.prog_token_fd = token.as_raw_fd();
        }
        Ok(())
    }
}

/// Without a stated length the kernel reads `fd_array` at whatever index an instruction names, so the indexes are
/// checked here: kfunc calls (`off`), and wide loads of a map by index (`imm`).
fn check_fd_array(insns: &[u8], entries: usize) -> Result<(), Errno> {
    const CALL: u8 = 0x85;
    const LD_IMM64: u8 = 0x18;
    const PSEUDO_KFUNC_CALL: u8 = 2;
    const PSEUDO_MAP_IDX: [u8; 2] = [5, 6];
    for insn in insns.chunks_exact(8) {
        // Where the two registers share a byte, the source is the high half on little-endian machines.
        let src = if cfg!(target_endian = "little") { insn[1] >> 4 } else { insn[1] & 0xf };
        let index = match (insn[0], src) {
            (CALL, PSEUDO_KFUNC_CALL) => i64::from(i16::from_ne_bytes([insn[2], insn[3]])),
            (LD_IMM64, src) if PSEUDO_MAP_IDX.contains(&src) => {
                i64::from(i32::from_ne_bytes([insn[4], insn[5], insn[6], insn[7]]))
            }
            _ => continue,
        };
        if usize::try_from(index).map_or(true, |index| index >= entries) {
            return Err(Errno::EINVAL);
        }
    }
    Ok(())
}

fn records(bytes: &[u8], rec_size: u32) -> Result<(u64, u32), Errno> {
    if bytes.is_empty() {
        return Ok((0, 0));
    }
    if rec_size == 0 || !bytes.len().is_multiple_of(rec_size as usize) {
        return Err(Errno::EINVAL);
    }
    Ok((addr(bytes), len(bytes)? / rec_size))
}

/// A loaded program. It lives as long as a descriptor, a link or a pin holds it.
#[derive(Debug)]
pub struct ProgFd {
    fd: OwnedFd,
}

fd_newtype!(ProgFd);

impl ProgFd {
    pub(super) fn from_kernel(fd: OwnedFd) -> ProgFd {
        ProgFd { fd }
    }

    /// Takes a descriptor from elsewhere. `EINVAL` when it is not a program.
    pub fn from_fd(fd: OwnedFd) -> Result<ProgFd, Errno> {
        match super::object_of(fd)? {
            super::Object::Prog(prog) => Ok(prog),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Opens a program by its id. Needs `CAP_SYS_ADMIN`.
    pub fn from_id(id: ProgId) -> Result<ProgFd, Errno> {
        Ok(ProgFd { fd: super::id::open(cmd::PROG_GET_FD_BY_ID, id.0, 0)? })
    }

    /// Another descriptor for the same program.
    pub fn try_clone(&self) -> Result<ProgFd, Errno> {
        Ok(ProgFd { fd: rustix::io::fcntl_dupfd_cloexec(&self.fd, 3)? })
    }

    /// What the kernel says about the program.
    pub fn info(&self) -> Result<ProgInfo, Errno> {
        ProgInfo::of(self.fd.as_fd())
    }

    /// As [`prog_bind_map`].
    pub fn bind_map(&self, map: BorrowedFd<'_>) -> Result<(), Errno> {
        prog_bind_map(self.fd.as_fd(), map)
    }

    /// `BPF_PROG_ASSOC_STRUCT_OPS` (kernel 6.19): the program's calls of a struct_ops's kfuncs mean the structure in `map`.
    /// Older kernels say `EINVAL`.
    pub fn associate_struct_ops(&self, map: BorrowedFd<'_>) -> Result<(), Errno> {
        let mut a = attr::ProgAssocStructOps::zeroed();
        a.map_fd = raw(map);
        a.prog_fd = raw(self.fd.as_fd());
        // SAFETY: no addresses in this attribute.
        unsafe { call(cmd::PROG_ASSOC_STRUCT_OPS, &mut a) }.map(drop)
    }

    /// `BPF_PROG_TEST_RUN`: runs the program on data and context made up by the caller.
    pub fn test_run(&self, run: &mut TestRun<'_>) -> Result<TestRunOutcome, Errno> {
        let mut a = attr::TestRun::zeroed();
        a.prog_fd = raw(self.fd.as_fd());
        a.data_in = addr(run.data_in);
        a.data_size_in = len(run.data_in)?;
        a.data_out = addr_mut(run.data_out);
        a.data_size_out = len(run.data_out)?;
        a.ctx_in = addr(run.ctx_in);
        a.ctx_size_in = len(run.ctx_in)?;
        a.ctx_out = addr_mut(run.ctx_out);
        a.ctx_size_out = len(run.ctx_out)?;
        a.repeat = run.repeat;
        a.flags = run.flags;
        a.cpu = run.cpu;
        a.batch_size = run.batch_size;
        // SAFETY: inputs are borrowed for reading and outputs for writing, each with its own length; the kernel writes at
        // most `*_size_out` bytes. A `syscall` program's context is both: it is in `ctx_out` below.
        let result = unsafe { call(cmd::PROG_TEST_RUN, &mut a) };
        match result {
            Ok(_) => Ok(TestRunOutcome {
                retval: a.retval,
                duration_ns: a.duration,
                data_len: a.data_size_out as usize,
                ctx_len: a.ctx_size_out as usize,
            }),
            Err(errno) => Err(errno),
        }
    }

    /// Runs a `syscall` program on a context that it may change in place.
    pub fn run_syscall(&self, ctx: &mut [u8]) -> Result<u32, Errno> {
        let mut a = attr::TestRun::zeroed();
        a.prog_fd = raw(self.fd.as_fd());
        a.ctx_size_in = len(ctx)?;
        a.ctx_in = addr_mut(ctx);
        // SAFETY: for this program type the kernel copies the changed context back over `ctx_in`, which is borrowed
        // mutably and has this length.
        unsafe { call(cmd::PROG_TEST_RUN, &mut a)? };
        Ok(a.retval)
    }
}

/// `BPF_PROG_BIND_MAP` (kernel 5.10): the program keeps the map alive though no instruction names it.
pub fn prog_bind_map(prog: BorrowedFd<'_>, map: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut a = attr::ProgBindMap::zeroed();
    a.prog_fd = raw(prog);
    a.map_fd = raw(map);
    // SAFETY: no addresses in this attribute.
    unsafe { call(cmd::PROG_BIND_MAP, &mut a) }.map(drop)
}

/// What `BPF_PROG_TEST_RUN` takes. Do not use it for `syscall` programs, whose context is written in place.
#[derive(Debug, Default)]
pub struct TestRun<'a> {
    /// Packet bytes, where the type has a packet.
    pub data_in: &'a [u8],
    /// Where the packet is left afterwards; may be empty.
    pub data_out: &'a mut [u8],
    /// The context structure, where the type takes one.
    pub ctx_in: &'a [u8],
    /// Where the context is left afterwards; may be empty.
    pub ctx_out: &'a mut [u8],
    /// How often; 0 is once.
    pub repeat: u32,
    /// `flags::F_TEST_*`.
    pub flags: u32,
    /// With `flags::F_TEST_RUN_ON_CPU`.
    pub cpu: u32,
    /// For live XDP frames.
    pub batch_size: u32,
}

/// What a test run gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TestRunOutcome {
    /// What the program returned.
    pub retval: u32,
    /// Mean time of one run, in nanoseconds.
    pub duration_ns: u32,
    /// Bytes that are in `data_out`, or would be if they had fitted.
    pub data_len: usize,
    /// Bytes that are in `ctx_out`.
    pub ctx_len: usize,
}

/// What `BPF_PROG_ATTACH` and `BPF_PROG_DETACH` take, for hooks without a link.
#[derive(Clone, Copy, Debug)]
pub struct Attach<'a> {
    /// What is attached to: a cgroup, a map, or the number of a device.
    pub target: super::LinkTarget<'a>,
    /// `enum bpf_attach_type`.
    pub attach_type: u32,
    /// `flags::F_ALLOW_*`, `F_REPLACE`, `F_BEFORE` ...
    pub attach_flags: u32,
    /// With `flags::F_REPLACE`.
    pub replace: Option<BorrowedFd<'a>>,
    /// With `flags::F_BEFORE` or `F_AFTER`.
    pub relative: super::Relative<'a>,
    /// Revision of the hook's list that the caller saw; 0 for any.
    pub expected_revision: u64,
}

impl Attach<'_> {
    fn attr(&self, prog: Option<BorrowedFd<'_>>) -> attr::ProgAttach {
        let mut a = attr::ProgAttach::zeroed();
        a.target = self.target.word();
        a.attach_bpf_fd = super::raw_or_zero(prog);
        a.attach_type = self.attach_type;
        a.attach_flags = self.attach_flags | self.relative.flag();
        a.replace_bpf_fd = super::raw_or_zero(self.replace);
        a.relative = self.relative.word();
        a.expected_revision = self.expected_revision;
        a
    }
}

/// Attaches a program so that it stays when the process ends. Prefer a link.
pub fn prog_attach(prog: BorrowedFd<'_>, to: &Attach<'_>) -> Result<(), Errno> {
    // SAFETY: no addresses in this attribute.
    unsafe { call(cmd::PROG_ATTACH, &mut to.attr(Some(prog))) }.map(drop)
}

/// Takes a program off. Hooks with one program need none named.
pub fn prog_detach(prog: Option<BorrowedFd<'_>>, from: &Attach<'_>) -> Result<(), Errno> {
    // SAFETY: no addresses in this attribute.
    unsafe { call(cmd::PROG_DETACH, &mut from.attr(prog)) }.map(drop)
}

/// What `BPF_PROG_QUERY` takes.
#[derive(Clone, Copy, Debug)]
pub struct ProgQuery<'a> {
    /// A cgroup, a map, a network namespace, or the number of a device.
    pub target: super::LinkTarget<'a>,
    /// `enum bpf_attach_type`.
    pub attach_type: u32,
    /// `flags::F_QUERY_EFFECTIVE` or 0.
    pub query_flags: u32,
}

/// Programs found at a hook.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueriedProgs {
    /// Ids, in order of running.
    pub progs: Vec<ProgId>,
    /// For each program the flags it was attached with, where the kernel tells.
    pub attach_flags: Vec<u32>,
    /// For each program its link, 0 for none, where the kernel tells (tcx, netkit).
    pub links: Vec<super::LinkId>,
    /// Flags of the hook.
    pub hook_flags: u32,
    /// Changes with every attach and detach (tcx, netkit, kernel 6.6).
    pub revision: u64,
}

/// Asks what is attached to a hook.
pub fn prog_query(query: &ProgQuery<'_>) -> Result<QueriedProgs, Errno> {
    let mut room = 64usize;
    loop {
        let mut ids = vec![0u32; room];
        let mut prog_flags = vec![0u32; room];
        let mut links = vec![0u32; room];
        // tcx and netkit know links and revisions; the others refuse the fields.
        let with_links = matches!(query.attach_type, 46 | 47 | 54 | 55);
        let mut a = attr::ProgQuery::zeroed();
        a.target = query.target.word();
        a.attach_type = query.attach_type;
        a.query_flags = query.query_flags;
        a.prog_ids = addr_mut(&mut ids);
        a.count = len(&ids)?;
        if with_links {
            a.link_ids = addr_mut(&mut links);
        }
        if query.query_flags & flags::F_QUERY_EFFECTIVE == 0 && matches!(query.target, super::LinkTarget::Fd(_)) {
            // Cgroup hooks since 6.0; older kernels answer E2BIG or EINVAL, and then it is asked again without.
            a.prog_attach_flags = addr_mut(&mut prog_flags);
        }
        // SAFETY: each array has `count` entries of 32 bits and is borrowed mutably.
        let mut result = unsafe { call(cmd::PROG_QUERY, &mut a) };
        let mut with_flags = a.prog_attach_flags != 0;
        if with_flags && matches!(result, Err(Errno::EINVAL | Errno::E2BIG)) {
            a.prog_attach_flags = 0;
            a.count = len(&ids)?;
            with_flags = false;
            // SAFETY: as above.
            result = unsafe { call(cmd::PROG_QUERY, &mut a) };
        }
        match result {
            Ok(_) if a.count as usize <= room => {
                let count = a.count as usize;
                ids.truncate(count);
                links.truncate(if with_links { count } else { 0 });
                prog_flags.truncate(if with_flags { count } else { 0 });
                return Ok(QueriedProgs {
                    progs: ids.into_iter().map(ProgId).collect(),
                    attach_flags: prog_flags,
                    links: links.into_iter().map(super::LinkId).collect(),
                    hook_flags: a.attach_flags,
                    revision: a.revision,
                });
            }
            Ok(_) | Err(Errno::ENOSPC) if room < 1 << 16 => room = room.saturating_mul(4).max(a.count as usize),
            Ok(_) => return Err(Errno::ENOSPC),
            Err(errno) => return Err(errno),
        }
    }
}

/// What a perf event or raw tracepoint of some process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskFd {
    /// The program.
    pub prog: ProgId,
    /// `enum bpf_task_fd_type`: 0 raw tracepoint, 1 tracepoint, 2 and 3 kprobe and kretprobe, 4 and 5 uprobe and uretprobe.
    pub fd_type: u32,
    /// Tracepoint, function or file, as far as the kernel names it.
    pub name: String,
    /// Offset in the function or file.
    pub probe_offset: u64,
    /// Address, where there is no name.
    pub probe_addr: u64,
}

/// `BPF_TASK_FD_QUERY`: `ENOENT` or `ENOTSUPP` when the descriptor has no program.
pub fn task_fd_query(pid: u32, fd: u32) -> Result<TaskFd, Errno> {
    let mut name = [0u8; 512];
    let mut a = attr::TaskFdQuery::zeroed();
    a.pid = pid;
    a.fd = fd;
    a.buf = addr_mut(&mut name);
    a.buf_len = len(&name)?;
    // SAFETY: the buffer is borrowed mutably with its own length.
    match unsafe { call(cmd::TASK_FD_QUERY, &mut a) } {
        Ok(_) | Err(Errno::ENOSPC) => {}
        Err(errno) => return Err(errno),
    }
    let end = name.iter().position(|&b| b == 0).unwrap_or(name.len());
    Ok(TaskFd {
        prog: ProgId(a.prog_id),
        fd_type: a.fd_type,
        name: String::from_utf8_lossy(&name[..end]).into_owned(),
        probe_offset: a.probe_offset,
        probe_addr: a.probe_addr,
    })
}

/// `BPF_ENABLE_STATS`: run time and run count of all programs are measured as long as the descriptor is open (kernel 5.8).
pub fn enable_stats() -> Result<OwnedFd, Errno> {
    let mut a = attr::Single::zeroed();
    // SAFETY: no addresses in this attribute (0 is BPF_STATS_RUN_TIME); the command returns a descriptor.
    unsafe { call_fd(cmd::ENABLE_STATS, &mut a) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_outside_the_descriptor_array_is_refused() {
        let mut kfunc = [0x85, 0x20, 1, 0, 9, 0, 0, 0];
        if cfg!(target_endian = "big") {
            kfunc = [0x85, 0x02, 0, 1, 0, 0, 0, 9];
        }
        assert_eq!(check_fd_array(&kfunc, 2), Ok(()));
        assert_eq!(check_fd_array(&kfunc, 1), Err(Errno::EINVAL));
    }
}
