//! Whose events a script sees, where that is more than one process: a family of processes, or a cgroup.
//!
//! Both are checks in front of each program, so that maps and counters are right, not only what is printed.
//!
//! - **A family** is the process of `-p` or `-c` and everything that comes from it. Two small programs keep it as a set in the
//!   kernel: `sched_process_fork` adds the child of a member, before the child has run one instruction, and
//!   `sched_process_free` takes a task out when nothing of it is left. Members are known by the kernel's own numbers. In a
//!   process id namespace those cannot be asked for, so the first members are known by the namespace's numbers there, marked
//!   by the upper bits of the key.
//! - **A cgroup** is asked for by `bpf_current_task_under_cgroup`, which takes those below it, too.
//!
//! What runs on a timer of its own (`interval`), on request (`BEGIN`, iterators) or not in a process at all has no owner, and is
//! left as it is.

use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;

use skep_engine::{AttachOptions, Link, ProgId, Session};
use skep_insn::build::{add, alu, atomic, branch, call, exit, load, load_imm64, mov, slots, store};
use skep_insn::{AluOp, AtomicOp, Cond, Insn, InsnIdx, Reg, Size, Width, helpers};
use skep_script::plan::{Attach, Plan};
use skep_spec::function::{RefTarget, Reference};
use skep_spec::{AttachPoint, FuncId, Function, Map, MapId, MapType, ProgType, Program, Spec};
use skep_sys::tracefs::Tracefs;

use crate::leave_out::Process;
use crate::{Error, family};

/// The most members of a family at one time, threads counted.
const MEMBERS: u32 = 65536;
/// `BPF_F_NO_PREALLOC` (include/uapi/linux/bpf.h): a set of few members takes little memory.
const NO_PREALLOC: u32 = 1;
/// Over a namespace's number: no number of the kernel has these bits (`PID_MAX_LIMIT` is 2^22).
const OF_NAMESPACE: i32 = i32::MIN;

/// The limits of a run, put into its programs.
#[derive(Debug, Default)]
pub(super) struct Scope {
    family: Option<Family>,
    cgroup: Option<(MapId, PathBuf)>,
    /// Programs that are too long for the checks and see everyone.
    pub(super) unlimited: Vec<String>,
}

#[derive(Debug)]
struct Family {
    root: Process,
    members: MapId,
    missed: MapId,
    programs: [ProgId; 2],
}

impl Scope {
    /// Puts the checks in front of the programs of `plan`.
    ///
    /// # Errors
    ///
    /// When this kernel does not say how its processes come and go.
    pub(super) fn add(
        spec: &mut Spec,
        plan: &Plan,
        root: Option<Process>,
        cgroup: Option<&PathBuf>,
    ) -> Result<Scope, Error> {
        let mut scope = Scope::default();
        let targets: Vec<(FuncId, String)> = plan
            .programs
            .iter()
            .filter(|program| program.places.iter().all(|place| has_owner(&place.attach)))
            .map(|program| (spec.program(program.program).entry, program.places.first()))
            .map(|(entry, place)| (entry, place.map_or_else(String::new, |place| place.name.clone())))
            .collect();
        if let Some(path) = cgroup {
            let map = new_map(spec, Map::new("skep_cgroup", MapType::CGROUP_ARRAY, 4, 4, 1));
            scope.cgroup = Some((map, path.clone()));
            scope.insert(spec, &targets, &under_cgroup(map));
        }
        if let Some(root) = root {
            let members = Map { flags: NO_PREALLOC, ..Map::new("skep_family", MapType::HASH, 8, 8, MEMBERS) };
            let members = new_map(spec, members);
            let missed = new_map(spec, Map::new("skep_missed", MapType::ARRAY, 4, 8, 1));
            scope.insert(spec, &targets, &is_member(root, members));
            let fork = born(root, members, missed, field("sched_process_fork", "child_pid")?);
            let free = gone(members, field("sched_process_free", "pid")?);
            let programs = [("sched_process_fork", fork), ("sched_process_free", free)];
            let programs = programs.map(|(event, code)| new_program(spec, event, &code));
            scope.family = Some(Family { root, members, missed, programs });
        }
        Ok(scope)
    }

    fn insert(&mut self, spec: &mut Spec, targets: &[(FuncId, String)], code: &Code) {
        let mut done: Vec<FuncId> = Vec::new();
        for (entry, name) in targets {
            if done.contains(entry) {
                continue;
            }
            done.push(*entry);
            if spec.insert(*entry, InsnIdx(0), &slots(&code.insns), &code.references()).is_err() {
                self.unlimited.push(name.clone());
            }
        }
    }

    /// Lets the checks begin: to be called before the script's programs are attached.
    ///
    /// # Errors
    ///
    /// When the cgroup has gone, or the set of processes cannot be kept.
    pub(super) fn start(&self, session: &dyn Session) -> Result<Vec<Box<dyn Link>>, Error> {
        if let Some((map, path)) = &self.cgroup
            && let Some(map) = session.map(*map)
        {
            let cannot = |cause| Error::new(format!("cannot open cgroup `{}`", path.display())).with_source(cause);
            let folder = std::fs::File::open(path).map_err(cannot)?;
            map.update(&0u32.to_ne_bytes(), &folder.as_fd().as_raw_fd().to_ne_bytes(), 0)?;
        }
        let Some(family) = &self.family else { return Ok(Vec::new()) };
        let Some(members) = session.map(family.members) else { return Ok(Vec::new()) };
        let mark = family.root.namespace.map_or(0, |_| OF_NAMESPACE as i64 as u64);
        let join = |pid: u32| members.update(&(mark | u64::from(pid)).to_ne_bytes(), &[0; 8], 0);
        join(family.root.pid)?;
        let mut links = Vec::new();
        for id in family.programs {
            links.push(session.attach(id, &AttachOptions::default())?);
        }
        // Whoever is born from here on is added by the kernel if its parent is in the set, so look until nobody is new.
        let mut known = vec![family.root.pid];
        loop {
            let found = family::descendants(family.root.pid);
            let new: Vec<u32> = found.into_iter().filter(|pid| !known.contains(pid)).collect();
            if new.is_empty() {
                return Ok(links);
            }
            for pid in &new {
                join(*pid)?;
            }
            known.extend(new);
        }
    }

    /// How many children did not fit into the set.
    pub(super) fn missed(&self, session: &dyn Session) -> u64 {
        let map = self.family.as_ref().and_then(|family| session.map(family.missed));
        let value = map.and_then(|map| map.lookup(&0u32.to_ne_bytes()).ok().flatten());
        value.and_then(|value| value.first_chunk::<8>().map(|count| u64::from_ne_bytes(*count))).unwrap_or(0)
    }
}

/// Whether somebody's doing runs what is attached there.
fn has_owner(attach: &Attach) -> bool {
    match attach {
        Attach::Begin | Attach::End | Attach::Signal(_) | Attach::Test { .. } | Attach::Iter { .. } => false,
        Attach::Perf(event) => !event.one_cpu,
        Attach::Section { .. } => true,
    }
}

fn new_map(spec: &mut Spec, map: Map) -> MapId {
    spec.maps.push(map);
    MapId(spec.maps.len() as u32 - 1)
}

fn new_program(spec: &mut Spec, event: &str, code: &Code) -> ProgId {
    let section = format!("tracepoint/sched/{event}");
    let mut function = Function::new(event, &section, slots(&code.insns));
    function.references = code.references();
    spec.functions.push(function);
    let entry = FuncId(spec.functions.len() as u32 - 1);
    let attach = AttachPoint::Tracepoint { category: "sched".to_owned(), name: event.to_owned() };
    spec.programs.push(Program { attach, ..Program::new(event, entry, &section, ProgType::TRACEPOINT) });
    ProgId(spec.programs.len() as u32 - 1)
}

/// Offset of a field of an event of the scheduler, from its format.
fn field(event: &str, name: &str) -> Result<i16, Error> {
    let cannot =
        || Error::new(format!("cannot follow processes: the kernel does not tell `{name}` of `sched:{event}`"));
    let format = Tracefs::shared()
        .and_then(|files| files.format("sched", event))
        .map_err(|cause| cannot().with_source(std::io::Error::from(cause)))?;
    offset_of(&format, name).ok_or_else(cannot)
}

/// Reads `field:pid_t child_pid; offset:44; size:4; signed:1;`.
fn offset_of(format: &str, name: &str) -> Option<i16> {
    let fields = format.lines().filter_map(|line| line.trim().strip_prefix("field:"));
    let mut fields = fields.map(|line| line.split(';').map(str::trim));
    let mut field =
        fields.find(|parts| parts.clone().next().is_some_and(|first| first.ends_with(&format!(" {name}"))))?;
    field.find_map(|part| part.strip_prefix("offset:")?.parse().ok())
}

/// Instructions, and which of them load a map.
#[derive(Default)]
struct Code {
    insns: Vec<Insn>,
    maps: Vec<(InsnIdx, RefTarget)>,
}

impl Code {
    fn push(&mut self, insns: impl IntoIterator<Item = Insn>) -> &mut Code {
        self.insns.extend(insns);
        self
    }

    fn load(&mut self, reg: Reg, target: RefTarget) -> &mut Code {
        let at = InsnIdx(slots(&self.insns).len() as u32);
        self.maps.push((at, target));
        self.push([load_imm64(reg, 0)])
    }

    fn references(&self) -> Vec<Reference> {
        self.maps.iter().map(|(insn, target)| Reference { insn: *insn, target: *target }).collect()
    }

    /// Puts `r0` into the key at `fp - 8` and looks it up.
    fn look_up(&mut self, members: MapId) -> &mut Code {
        self.push([store(Size::Dw, Reg::FP, -8, Reg::R0)]);
        self.load(Reg::R1, RefTarget::Map(members));
        self.push([mov(Reg::R2, Reg::FP), add(Reg::R2, -8), call(helpers::MAP_LOOKUP_ELEM)])
    }
}

/// `if (the current process is no member) return 0;`. r1 and r6 hold the context afterwards.
fn is_member(root: Process, members: MapId) -> Code {
    let mut code = Code::default();
    code.push([mov(Reg::R6, Reg::R1)]);
    // The kernel's own number, its lookup, and the way out: what a namespace's member jumps over.
    let mut own = Code::default();
    own.push([call(helpers::GET_CURRENT_PID_TGID), alu(AluOp::Rsh, Reg::R0, 32)]);
    own.look_up(members);
    own.push([branch(Cond::Ne, Reg::R0, 0, 2), mov(Reg::R0, 0), exit()]);
    if let Some((device, inode)) = root.namespace {
        code.push([
            load_imm64(Reg::R1, device),
            load_imm64(Reg::R2, inode),
            mov(Reg::R3, Reg::FP),
            add(Reg::R3, -16),
            mov(Reg::R4, 8),
            // Fills `struct bpf_pidns_info { u32 pid, tgid }`, with zeros for a process outside the namespace.
            call(helpers::GET_NS_CURRENT_PID_TGID),
            load(Size::W, Reg::R0, Reg::FP, -12),
            alu(AluOp::Or, Reg::R0, OF_NAMESPACE),
        ]);
        code.look_up(members);
        code.push([branch(Cond::Ne, Reg::R0, 0, slots(&own.insns).len() as i16)]);
    }
    let before = slots(&code.insns).len() as u32;
    code.maps.extend(own.maps.iter().map(|(at, target)| (InsnIdx(at.0 + before), *target)));
    code.push(own.insns);
    code.push([mov(Reg::R1, Reg::R6)]);
    code
}

/// Runs in a parent: the child of a member becomes one.
fn born(root: Process, members: MapId, missed: MapId, child: i16) -> Code {
    let mut code = is_member(root, members);
    code.push([
        load(Size::W, Reg::R0, Reg::R6, child),
        store(Size::Dw, Reg::FP, -8, Reg::R0),
        store(Size::Dw, Reg::FP, -16, 0),
    ]);
    code.load(Reg::R1, RefTarget::Map(members));
    code.push([mov(Reg::R2, Reg::FP), add(Reg::R2, -8), mov(Reg::R3, Reg::FP), add(Reg::R3, -16), mov(Reg::R4, 0)]);
    code.push([call(helpers::MAP_UPDATE_ELEM), branch(Cond::Eq, Reg::R0, 0, 4)]);
    code.load(Reg::R1, RefTarget::MapValue { map: missed, off_bytes: 0 });
    code.push([mov(Reg::R2, 1), atomic(AtomicOp::Add, Width::W64, Reg::R1, 0, Reg::R2), mov(Reg::R0, 0), exit()]);
    code
}

/// A task that nothing is left of is no member any more.
fn gone(members: MapId, pid: i16) -> Code {
    let mut code = Code::default();
    code.push([load(Size::W, Reg::R0, Reg::R1, pid), store(Size::Dw, Reg::FP, -8, Reg::R0)]);
    code.load(Reg::R1, RefTarget::Map(members));
    code.push([mov(Reg::R2, Reg::FP), add(Reg::R2, -8), call(helpers::MAP_DELETE_ELEM), mov(Reg::R0, 0), exit()]);
    code
}

/// `if (the current process is not below the cgroup) return 0;`. r1 holds the context afterwards.
fn under_cgroup(map: MapId) -> Code {
    let mut code = Code::default();
    code.push([mov(Reg::R6, Reg::R1)]);
    code.load(Reg::R1, RefTarget::Map(map));
    code.push([
        mov(Reg::R2, 0),
        call(helpers::CURRENT_TASK_UNDER_CGROUP),
        branch(Cond::Eq, Reg::R0, 1, 2),
        mov(Reg::R0, 0),
        exit(),
        mov(Reg::R1, Reg::R6),
    ]);
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let format = "name: x\nformat:\n\tfield:pid_t parent_pid;\toffset:24;\tsize:4;\tsigned:1;\n\
                      \tfield:pid_t pid;\toffset:44;\tsize:4;\tsigned:1;\n\nprint fmt: \"pid=%d\", REC->pid\n";
        assert_eq!(offset_of(format, "pid"), Some(44));
        assert_eq!(offset_of(format, "parent_pid"), Some(24));
        assert_eq!(offset_of(format, "child"), None);
    }

    #[test]
    fn a_namespaces_member_jumps_over_the_kernels_numbers() {
        let text = |code: &Code| slots(&code.insns).len();
        let first = is_member(Process { pid: 7, namespace: None }, MapId(3));
        let inner = is_member(Process { pid: 7, namespace: Some((4, 99)) }, MapId(3));
        assert_eq!(first.references().len(), 1);
        let [one, two] = &inner.references()[..] else { panic!("two lookups") };
        assert!(one.insn < two.insn && one.target == RefTarget::Map(MapId(3)));
        // The jump stands before the second part, which is the first program but for its first instruction; it leads to its last.
        let jump = text(&inner) - text(&first);
        let raw = slots(&inner.insns)[jump];
        assert_eq!(raw.off as usize, text(&first) - 2);
    }
}
