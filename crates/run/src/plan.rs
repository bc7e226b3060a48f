//! Which programs of an object are attached, and in which order they are tried.

use skep_spec::map::{MapContents, Slot};
use skep_spec::{AttachPoint, MapId, MapType, ProgId, ProgType, Program, Spec};

/// Programs that do the same job by different means: the first one that attaches is the one that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    /// The best first.
    pub(crate) alternatives: Vec<ProgId>,
}

/// A program that is loaded but not attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Idle {
    /// Which.
    pub(crate) program: ProgId,
    /// Why, for people.
    pub(crate) reason: &'static str,
}

/// What to do with an object's programs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// To attach, each with its alternatives.
    pub(crate) jobs: Vec<Job>,
    /// Iterators: run once, and their text printed.
    pub(crate) iterators: Vec<ProgId>,
    /// struct_ops maps, registered as a whole with the programs that are their members.
    pub(crate) struct_ops: Vec<MapId>,
    /// Loaded only.
    pub(crate) idle: Vec<Idle>,
}

/// What to do with the programs of `spec` that are switched on.
///
/// - A program that fills a slot of a program array is called by others; so is one whose section repeats its own name in an
///   object with a program array (`SEC("kprobe/output") int output(...)`, the custom for tail-call targets).
/// - `fentry/f` and `kprobe/f`, `fexit/f` and `kretprobe/f` are alternatives: an object has both so that it runs on kernels
///   without the former.
/// - A program whose section names no place (`syscall`, `sk_reuseport`, devmap programs) waits for someone to call it.
pub(crate) fn plan(spec: &Spec) -> Plan {
    let has_program_array = spec.maps.iter().any(|map| map.map_type == MapType::PROG_ARRAY);
    let in_slot = |id: ProgId| {
        spec.maps.iter().any(|map| match &map.contents {
            MapContents::Slots(slots) => slots.iter().any(|(_, slot)| *slot == Slot::Program(id)),
            _ => false,
        })
    };
    let struct_ops: Vec<MapId> = spec
        .maps()
        .filter(|(_, map)| map.autocreate && matches!(map.contents, MapContents::StructOps(_)))
        .map(|(id, _)| id)
        .collect();
    let is_member = |id: ProgId| {
        struct_ops.iter().any(|map| match &spec.map(*map).contents {
            MapContents::StructOps(ops) => ops.programs.iter().any(|(_, program)| *program == id),
            _ => false,
        })
    };
    let Plan { mut jobs, mut iterators, mut idle, .. } = Plan::default();
    for (id, program) in spec.programs().filter(|(_, program)| program.autoload) {
        if in_slot(id) {
            idle.push(Idle { program: id, reason: "a tail-call target, called through its program array" });
        } else if has_program_array && names_itself(program) {
            idle.push(Idle { program: id, reason: "a tail-call target: its section names the program itself" });
        } else if matches!(program.attach, AttachPoint::None) {
            idle.push(Idle { program: id, reason: "its section names no place to attach to" });
        } else if matches!(program.attach, AttachPoint::Iter { .. }) {
            iterators.push(id);
        } else if matches!(program.attach, AttachPoint::StructOps) {
            if !is_member(id) {
                idle.push(Idle { program: id, reason: "a member of no struct_ops map that is switched on" });
            }
        } else if let Some(job) = jobs.iter_mut().find(|job| same_job(spec.program(job.alternatives[0]), program)) {
            job.alternatives.push(id);
            job.alternatives.sort_by_key(|id| matches!(spec.program(*id).attach, AttachPoint::Kprobe { .. }));
        } else {
            jobs.push(Job { alternatives: vec![id] });
        }
    }
    Plan { jobs, iterators, struct_ops, idle }
}

/// Makes classifiers of tc actions, which are attached to an interface only through a filter of another program. A
/// classifier that acts at once (`direct-action`) has the same context and the same return values, so `SEC("action/egress")`
/// does what its author meant.
pub(crate) fn act_at_once(spec: &mut Spec) {
    for program in spec.programs.iter_mut().filter(|program| program.prog_type == ProgType::SCHED_ACT) {
        program.prog_type = ProgType::SCHED_CLS;
    }
}

/// The xdp programs among `jobs`, when there are several: an interface takes one.
pub(crate) fn rival_xdp<'s>(spec: &'s Spec, jobs: &[Job]) -> Option<Vec<&'s str>> {
    let programs = jobs.iter().map(|job| spec.program(job.alternatives[0]));
    let names: Vec<&str> =
        programs.filter(|program| program.attach == AttachPoint::Xdp).map(|program| program.name.as_str()).collect();
    (names.len() > 1).then_some(names)
}

fn names_itself(program: &Program) -> bool {
    matches!(&program.attach, AttachPoint::Kprobe { function, .. } if *function == program.name)
}

fn same_job(a: &Program, b: &Program) -> bool {
    match (place(a), place(b)) {
        (Some((f, ret, traced)), Some((g, ret_too, traced_too))) => f == g && ret == ret_too && traced != traced_too,
        _ => false,
    }
}

/// Function, whether at its return, and whether by fentry/fexit.
fn place(program: &Program) -> Option<(&str, bool, bool)> {
    match &program.attach {
        AttachPoint::Kprobe { function, off_bytes: 0, ret } => Some((function, *ret, false)),
        AttachPoint::Function { module: None, function } => match program.section.split_once('/')?.0 {
            "fentry" => Some((function, false, true)),
            "fexit" => Some((function, true, true)),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use skep_btf::TypeId;
    use skep_spec::map::StructOps;
    use skep_spec::{FuncId, Map};

    use super::*;

    fn program(name: &str, section: &str, attach: AttachPoint) -> Program {
        Program { attach, ..Program::new(name, FuncId(0), section, ProgType::KPROBE) }
    }

    fn kprobe(name: &str, function: &str) -> Program {
        let attach = AttachPoint::Kprobe { function: function.into(), off_bytes: 0, ret: false };
        program(name, &format!("kprobe/{function}"), attach)
    }

    fn fentry(name: &str, function: &str) -> Program {
        let attach = AttachPoint::Function { module: None, function: function.into() };
        program(name, &format!("fentry/{function}"), attach)
    }

    fn spec(programs: Vec<Program>, maps: Vec<Map>) -> Spec {
        Spec { programs, maps, ..Spec::new("test") }
    }

    fn program_array() -> Map {
        Map::new("jump", MapType::PROG_ARRAY, 4, 4, 8)
    }

    #[test]
    fn fentry_goes_before_the_kprobe_of_the_same_function() {
        let spec = spec(vec![kprobe("k", "vfs_read"), fentry("f", "vfs_read"), kprobe("w", "vfs_write")], vec![]);
        let Plan { jobs, idle, .. } = plan(&spec);
        let ids: Vec<Vec<u32>> = jobs.iter().map(|job| job.alternatives.iter().map(|id| id.0).collect()).collect();
        assert_eq!(ids, [vec![1, 0], vec![2]]);
        assert!(idle.is_empty());
    }

    #[test]
    fn several_xdp_programs_are_rivals() {
        let xdp = |name| program(name, "xdp", AttachPoint::Xdp);
        let two = spec(vec![xdp("drop"), xdp("pass")], vec![]);
        assert_eq!(rival_xdp(&two, &plan(&two).jobs), Some(vec!["drop", "pass"]));
        let one = spec(vec![xdp("drop"), kprobe("k", "vfs_read")], vec![]);
        assert_eq!(rival_xdp(&one, &plan(&one).jobs), None);
    }

    #[test]
    fn members_of_a_struct_ops_map_go_where_it_goes() {
        let member = |name| program(name, "struct_ops", AttachPoint::StructOps);
        let ops = StructOps {
            type_id: TypeId(1),
            data: vec![0; 8],
            programs: vec![(0, ProgId(0))],
            externs: vec![],
            link: true,
        };
        let map = Map { contents: MapContents::StructOps(ops), ..Map::new("ops", MapType::STRUCT_OPS, 4, 8, 1) };
        let mut spec = spec(vec![member("init"), member("stray")], vec![map]);
        let Plan { struct_ops, idle, .. } = plan(&spec);
        assert_eq!(struct_ops, [MapId(0)]);
        assert_eq!(idle.iter().map(|idle| idle.program).collect::<Vec<_>>(), [ProgId(1)]);
        spec.maps[0].autocreate = false;
        assert_eq!((plan(&spec).struct_ops.len(), plan(&spec).idle.len()), (0, 2));
    }

    #[test]
    fn a_section_that_names_its_own_program_is_a_tail_call_target() {
        let programs = vec![kprobe("output", "output"), kprobe("enter", "tcp_set_state")];
        let Plan { jobs, idle, .. } = plan(&spec(programs.clone(), vec![program_array()]));
        assert_eq!((jobs.len(), idle[0].program), (1, ProgId(0)));
        // Without a program array it is a kprobe like any other.
        assert_eq!(plan(&spec(programs, vec![])).jobs.len(), 2);
    }
}
