//! Giving programs to the kernel.
//!
//! A program is loaded without a log, which is what it costs least; only when it is refused is it loaded again with one, and
//! again with a larger one as long as the log does not fit. Programs of an object do not depend on each other, so large ones
//! are verified at the same time, each on a thread of its own.

use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use skep_engine::{Error, VerifierLog};
use skep_insn::{Endian, RawInsn};
use skep_spec::resolved::{AttachBtf, BindTarget, ResolvedProgram};
use skep_spec::{MapId, MapType, ProgId, Program, Spec};
use skep_sys::Errno;
use skep_sys::bpf::{BtfFd, Log, LogLevel, MapCreate, MapFd, ProgFd, ProgLoad};
use skep_sys::memlock;

use super::verdict;
use super::{errno_of, one_line, replace};
use crate::map::{KernelMap, failed};
use crate::prepared::CloneOptions;
use crate::target::LiveTarget;

/// The first buffer for a log; the largest that kernels before 5.19 take is `MAX_LOG`.
const FIRST_LOG: usize = 64 << 10;
const MAX_LOG: usize = (16 << 20) - 1;
/// From this many instructions in all, threads are worth their making.
const WORTH_THREADS: usize = 4096;

/// What loading programs needs to know.
pub(super) struct Loader<'a> {
    pub(super) spec: &'a Spec,
    pub(super) target: &'a LiveTarget,
    pub(super) token: Option<BorrowedFd<'a>>,
    pub(super) btf: Option<&'a BtfFd>,
    /// By the map's number; `None` was not made.
    pub(super) maps: &'a [Option<KernelMap>],
    /// Why a map was not made.
    pub(super) missing: &'a HashMap<MapId, Error>,
    pub(super) keep_logs: bool,
    pub(super) log: VerifierLog,
    /// Whose functions the object's extensions replace.
    pub(super) replaced: Option<&'a replace::Target>,
}

/// What became of a program.
pub(super) struct Outcome {
    pub(super) result: Result<ProgFd, Error>,
    pub(super) log: Option<String>,
}

/// A program with all that it refers to.
struct Bound {
    insns: Vec<RawInsn>,
    fd_array: Vec<i32>,
    /// Made for this program alone.
    _tables: Vec<MapFd>,
}

/// Descriptors of modules' types, opened once per object.
type Modules = HashMap<String, Result<BtfFd, String>>;

impl Loader<'_> {
    /// Loads the programs, in the order given.
    pub(super) fn load_all(&self, programs: &[(ProgId, &ResolvedProgram)]) -> Vec<Outcome> {
        let modules = self.open_modules(programs.iter().map(|(_, resolved)| *resolved));
        let total: usize = programs.iter().map(|(_, resolved)| resolved.insns.len()).sum();
        // How many threads there may be is read from files, so it is asked last.
        let threads = match total < WORTH_THREADS {
            true => 1,
            false => std::thread::available_parallelism().map_or(1, |n| n.get()).min(programs.len()),
        };
        if threads < 2 {
            return programs.iter().map(|(id, resolved)| self.load(*id, resolved, &modules)).collect();
        }
        let next = std::sync::atomic::AtomicUsize::new(0);
        let mut outcomes: Vec<(usize, Outcome)> = std::thread::scope(|scope| {
            let work = || {
                let mut done = Vec::new();
                loop {
                    let index = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let Some((id, resolved)) = programs.get(index) else { return done };
                    done.push((index, self.load(*id, resolved, &modules)));
                }
            };
            let handles: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut all = work();
            for handle in handles {
                match handle.join() {
                    Ok(done) => all.extend(done),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            all
        });
        outcomes.sort_by_key(|(index, _)| *index);
        outcomes.into_iter().map(|(_, outcome)| outcome).collect()
    }

    fn open_modules<'r>(&self, programs: impl IntoIterator<Item = &'r ResolvedProgram>) -> Modules {
        let mut modules = Modules::new();
        let mut open = |name: &String| {
            modules.entry(name.clone()).or_insert_with(|| match self.target.module_btf_fd(name) {
                Ok(Some(fd)) => Ok(fd),
                Ok(None) => Err(format!("module `{name}` is not loaded, or has no types")),
                Err(errno) => Err(format!("cannot open the types of module `{name}`: {errno}")),
            });
        };
        for resolved in programs {
            if let Some(AttachBtf { module: Some(name), .. }) = &resolved.attach_btf {
                open(name);
            }
            for bind in &resolved.binds {
                if let BindTarget::ModuleKsym { module } | BindTarget::ModuleKfunc { module } = &bind.target {
                    open(module);
                }
            }
        }
        modules
    }

    fn load(&self, id: ProgId, resolved: &ResolvedProgram, modules: &Modules) -> Outcome {
        let program = self.spec.program(id);
        match self.bind(program, resolved, modules) {
            Ok(bound) => self.load_bound(program, resolved, modules, &bound),
            Err(error) => Outcome { result: Err(error), log: None },
        }
    }

    /// Loads one program by itself, changed as `options` say.
    pub(super) fn load_clone(
        &self,
        original: &Program,
        resolved: &ResolvedProgram,
        options: &CloneOptions<'_>,
    ) -> Result<ProgFd, Error> {
        let modules = self.open_modules([resolved]);
        let mut program = original.clone();
        if let Some(name) = options.name {
            name.clone_into(&mut program.name);
        }
        program.flags = options.flags.unwrap_or(program.flags);
        let mut bound = self.bind(&program, resolved, &modules)?;
        let mut resolved = resolved.clone();
        resolved.attach_type = options.attach_type.or(resolved.attach_type);
        if let Some(edit) = options.edit {
            let before = bound.insns.len();
            edit(&mut bound.insns);
            if bound.insns.len() != before {
                // Both say where in the program something is, and that is unknown now.
                resolved.functions.clear();
                resolved.lines.clear();
            }
        }
        self.load_bound(&program, &resolved, &modules, &bound).result
    }

    fn load_bound(&self, program: &Program, resolved: &ResolvedProgram, modules: &Modules, bound: &Bound) -> Outcome {
        let insns = skep_insn::slots_to_bytes(&bound.insns, Endian::NATIVE);
        let attach_module = match &resolved.attach_btf {
            Some(AttachBtf { module: Some(name), .. }) => match modules.get(name) {
                Some(Ok(fd)) => Some(fd),
                Some(Err(reason)) => return Outcome { result: Err(refer(program, reason)), log: None },
                None => None,
            },
            _ => None,
        };
        let replaced = match replace::place(self.replaced, program) {
            Ok(place) => place,
            Err(error) => return Outcome { result: Err(error), log: None },
        };
        let (attach_to, attach_btf_id) = match replaced {
            Some((target, function)) => (Some(target.fd.as_fd()), function),
            None => (attach_module.map(AsFd::as_fd), resolved.attach_btf.as_ref().map_or(0, |of| of.type_id.0)),
        };
        let license = CString::new(self.spec.license.as_deref().unwrap_or_default()).unwrap_or_default();
        let (func_info, line_info) = self.debug_info(resolved);
        let attempt = |log: Option<Log<'_>>| {
            let mut load = ProgLoad {
                prog_type: program.prog_type.0,
                insns: &insns,
                license: &license,
                name: &program.name,
                log,
                kern_version: self.kernel_version(),
                prog_flags: program.flags,
                expected_attach_type: resolved.attach_type.map_or(0, |of| of.0),
                btf: self.btf.filter(|_| !func_info.is_empty()).map(AsFd::as_fd),
                func_info: &func_info,
                func_info_rec_size: 8,
                line_info: &line_info,
                line_info_rec_size: 16,
                attach_btf_id,
                attach_to,
                fd_array: &bound.fd_array,
                token: self.token,
                ..ProgLoad::default()
            };
            load.load()
        };
        let mut kept = None;
        let mut result = if self.keep_logs && !self.log.disabled {
            let (result, log) = self.with_log(attempt, LogLevel(LogLevel::BRIEF.0 | LogLevel::STATS.0));
            kept = Some(log);
            result
        } else {
            attempt(None).0
        };
        if matches!(result, Err(Errno::EPERM)) && memlock::is_counted() && memlock::lift().is_ok() {
            result = attempt(None).0;
        }
        match result {
            Ok(fd) => Outcome { result: Ok(fd), log: kept },
            Err(errno) => {
                let log = match kept {
                    Some(log) => log,
                    None if self.log.disabled => String::new(),
                    None => self.with_log(attempt, LogLevel::BRIEF).1,
                };
                let error = verdict::explain(self.spec, program, resolved, errno, &log);
                Outcome { result: Err(error), log: self.keep_logs.then_some(log) }
            }
        }
    }

    /// Loads with a log, in a buffer that grows until all of it fits.
    fn with_log(
        &self,
        attempt: impl Fn(Option<Log<'_>>) -> (Result<ProgFd, Errno>, u32),
        level: LogLevel,
    ) -> (Result<ProgFd, Errno>, String) {
        let level = if self.log.level == 0 { level } else { LogLevel(self.log.level) };
        // Kernels before 6.4 refuse less than 128 bytes.
        let mut size = if self.log.first_bytes == 0 { FIRST_LOG } else { self.log.first_bytes.clamp(128, MAX_LOG) };
        loop {
            let mut buf = vec![0; size];
            let (result, needed) = attempt(Some(Log { level, buf: &mut buf }));
            if matches!(result, Err(Errno::ENOSPC)) && size < MAX_LOG {
                // Since 6.4 the kernel says how much it wants; before, one has to guess.
                size = size.saturating_mul(4).max(needed as usize + 1).min(MAX_LOG);
                continue;
            }
            let end = buf.iter().position(|&b| b == 0).unwrap_or(buf.len());
            return (result, String::from_utf8_lossy(&buf[..end]).into_owned());
        }
    }

    fn kernel_version(&self) -> u32 {
        skep_spec::Target::kernel_version(self.target)
    }

    /// `func_info` and `line_info`; both empty unless the kernel has the object's types.
    fn debug_info(&self, resolved: &ResolvedProgram) -> (Vec<u8>, Vec<u8>) {
        if self.btf.is_none() || resolved.functions.is_empty() {
            return (Vec::new(), Vec::new());
        }
        let functions = resolved.functions.iter().flat_map(|it| [it.insn.0, it.type_id.0]);
        let lines = resolved.lines.iter().flat_map(|it| [it.insn.0, it.file_name_off, it.line_off, it.line_col]);
        (functions.flat_map(u32::to_ne_bytes).collect(), lines.flat_map(u32::to_ne_bytes).collect())
    }

    /// Puts descriptors into the instructions.
    fn bind(&self, program: &Program, resolved: &ResolvedProgram, modules: &Modules) -> Result<Bound, Error> {
        let mut insns: Vec<RawInsn> = resolved.insns.clone();
        // Index 0 means the kernel itself.
        let mut fd_array: Vec<i32> = Vec::new();
        let mut tables = Vec::new();
        for bind in &resolved.binds {
            let at = bind.insn.0 as usize;
            let slot = |insns: &mut Vec<RawInsn>, at: usize, set: &dyn Fn(&mut RawInsn)| match insns.get_mut(at) {
                Some(insn) => {
                    set(insn);
                    Ok(())
                }
                None => Err(refer(program, &format!("instruction {at} is behind its end"))),
            };
            match &bind.target {
                BindTarget::Map(id) | BindTarget::MapValue(id) => {
                    let fd = self.map_fd(program, *id)?;
                    slot(&mut insns, at, &|insn| insn.imm = fd)?;
                }
                BindTarget::JumpTable { map, targets } => {
                    let table = self.jump_table(program, *map, targets.iter().map(|target| target.0))?;
                    let fd = table.as_fd().as_raw_fd();
                    tables.push(table);
                    slot(&mut insns, at, &|insn| insn.imm = fd)?;
                }
                BindTarget::ModuleKsym { module } => {
                    let fd = module_fd(program, modules, module)?;
                    slot(&mut insns, at + 1, &|insn| insn.imm = fd)?;
                }
                BindTarget::ModuleKfunc { module } => {
                    let fd = module_fd(program, modules, module)?;
                    if fd_array.is_empty() {
                        fd_array.push(0);
                    }
                    let index = fd_array.iter().skip(1).position(|&known| known == fd).map_or_else(
                        || {
                            fd_array.push(fd);
                            fd_array.len() - 1
                        },
                        |at| at + 1,
                    );
                    let index = i16::try_from(index)
                        .map_err(|_| refer(program, "it calls functions of more modules than a call can name"))?;
                    slot(&mut insns, at, &|insn| insn.off = index)?;
                }
            }
        }
        Ok(Bound { insns, fd_array, _tables: tables })
    }

    fn map_fd(&self, program: &Program, id: MapId) -> Result<i32, Error> {
        if let Some(Some(map)) = self.maps.get(id.0 as usize) {
            return Ok(map.as_fd().as_raw_fd());
        }
        let name = &self.spec.map(id).name;
        Err(match self.missing.get(&id) {
            Some(error) => {
                let errno = errno_of(error).unwrap_or(Errno::EINVAL);
                refer(program, &one_line(error)).with_source(errno)
            }
            None => refer(program, &format!("it needs map `{name}`, which is switched off")),
        })
    }

    /// The table of an indirect jump (kernel 6.19): a map that tells the verifier where the jump may lead.
    fn jump_table(
        &self,
        program: &Program,
        map: MapId,
        targets: impl ExactSizeIterator<Item = u32>,
    ) -> Result<MapFd, Error> {
        // `struct bpf_insn_array_value`: where the target was, where it is, where its machine code is.
        const VALUE_SIZE: u32 = 16;
        let name = &self.spec.map(map).name;
        let what = |errno| failed(&format!("program `{}`: cannot make the jump table `{name}`", program.name), errno);
        let table = MapCreate {
            map_type: MapType::INSN_ARRAY.0,
            key_size: 4,
            value_size: VALUE_SIZE,
            max_entries: targets.len() as u32,
            name,
            token: self.token,
            ..MapCreate::default()
        }
        .create()
        .map_err(|errno| what(errno).with_hint("indirect jumps need kernel 6.19: compile with -mcpu=v3"))?;
        for (index, target) in (0u32..).zip(targets) {
            let mut value = [0u8; VALUE_SIZE as usize];
            value[..4].copy_from_slice(&target.to_ne_bytes());
            table.update(&index.to_ne_bytes(), &value, 0).map_err(what)?;
        }
        table.freeze().map_err(what)?;
        Ok(table)
    }
}

fn module_fd(program: &Program, modules: &Modules, module: &str) -> Result<i32, Error> {
    match modules.get(module) {
        Some(Ok(fd)) => Ok(fd.as_fd().as_raw_fd()),
        Some(Err(reason)) => Err(refer(program, reason)),
        None => Err(refer(program, &format!("module `{module}` was not looked for"))),
    }
}

/// An error about one program that no system call gave.
fn refer(program: &Program, reason: &str) -> Error {
    Error::new(format!("program `{}` ({}): {reason}", program.name, program.section)).with_source(Errno::EINVAL)
}
