//! The kernel's type that a program attaches to.
//!
//! | section | type | kind |
//! |---|---|---|
//! | `tp_btf/NAME` | `btf_trace_NAME` | typedef |
//! | `lsm/NAME`, `lsm_cgroup/NAME` | `bpf_lsm_NAME` | function |
//! | `iter/NAME` | `bpf_iter_NAME` | function |
//! | `fentry/NAME`, `fexit`, `fmod_ret`, `fsession` | `NAME` | function |
//! | `struct_ops` | the structure; the member's index is the attach type | struct |

use skep_btf::Kind;

use super::Problem;
use super::struct_ops::Found;
use super::types::Types;
use crate::resolved::ResolvedProgram;
use crate::target::Feature;
use crate::{AttachPoint, AttachType, ProgId, ProgType, Program, Target};

/// The type to look for.
pub(crate) struct Wanted<'p> {
    module: Option<&'p str>,
    prefix: &'static str,
    short: &'p str,
    /// Prefix and short name.
    pub(crate) name: String,
    pub(crate) kind: Kind,
    what: &'static str,
}

/// The type that a program attaches to; `None` when it attaches to none that has a name.
pub(crate) fn wanted(program: &Program) -> Option<Wanted<'_>> {
    let (module, prefix, short, kind, what) = match &program.attach {
        AttachPoint::BtfTracepoint { name } => (None, "btf_trace_", name, Kind::TYPEDEF, "tracepoint"),
        AttachPoint::Lsm { hook } => (None, "bpf_lsm_", hook, Kind::FUNC, "LSM hook"),
        AttachPoint::Iter { target } => (None, "bpf_iter_", target, Kind::FUNC, "iterator"),
        AttachPoint::Function { module, function } => (module.as_deref(), "", function, Kind::FUNC, "function"),
        _ => return None,
    };
    // A bare section leaves the name open, for an editor of the Spec to fill in.
    if short.is_empty() {
        return None;
    }
    Some(Wanted { module, prefix, short, name: format!("{prefix}{short}"), kind, what })
}

/// Fills in what the kernel wants to know at load about the place that a program attaches to.
pub(super) fn attach(
    program: &Program,
    id: ProgId,
    target: &dyn Target,
    types: &mut Types<'_>,
    struct_ops: &[Found],
    out: &mut ResolvedProgram,
) -> Result<(), Problem> {
    if program.prog_type == ProgType::UNSPEC {
        return Err(Problem::new(format!("section `{}` names no program type", program.section)));
    }
    if program.prog_type == ProgType::STRUCT_OPS {
        let (at, member) = super::struct_ops::member(struct_ops, id)?;
        out.attach_btf = Some(at);
        out.attach_type = Some(AttachType(member));
        return Ok(());
    }
    if matches!(program.attach, AttachPoint::Usdt { .. }) && target.supports(Feature::UprobeMulti) {
        out.attach_type = Some(AttachType::TRACE_UPROBE_MULTI);
    }
    let Some(wanted) = wanted(program) else {
        let needs_type = matches!(program.prog_type, ProgType::TRACING | ProgType::LSM);
        return match program.attach {
            AttachPoint::FunctionMulti { .. } => Ok(()),
            _ if needs_type => {
                let section = &program.section;
                Err(Problem::new(format!("section `{section}` does not say what to attach to"))
                    .hint(format!("write SEC(\"{section}/NAME\")")))
            }
            _ => Ok(()),
        };
    };
    if let Some(place) = types.find(wanted.module, &wanted.name, wanted.kind)? {
        out.attach_btf = Some(place.at);
        return Ok(());
    }
    if let Some(module) = wanted.module
        && !types.has_module(module)
    {
        return Err(Problem::new(format!("kernel module `{module}` is not loaded, or has no type information (BTF)"))
            .hint(format!("run `modprobe {module}`")));
    }
    let place = match wanted.module {
        Some(module) if module != "vmlinux" => format!("kernel module `{module}` has"),
        _ => "this kernel has".to_string(),
    };
    let hint = types.did_you_mean(wanted.prefix, wanted.short, wanted.kind);
    Err(Problem::new(format!("{place} no {} `{}`", wanted.what, wanted.short)).hint(hint))
}
