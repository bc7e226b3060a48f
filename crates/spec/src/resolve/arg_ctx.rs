//! `__arg_ctx` for kernels that do not know it.
//!
//! A global function is verified on its own, so the verifier must learn from its prototype which argument is the context of
//! the program. Kernels from 6.8 read a declaration tag `arg:ctx` on the argument; older ones want the argument's type to
//! be a pointer to the structure that has the name of the program type's context, `struct xdp_md` for XDP. One function
//! may serve programs of several types, so each program gets its own copy of the function's types, with the arguments that
//! are tagged turned into what the kernel looks for (libbpf's `bpf_program_fixup_func_info`). The copies are appended to
//! the object's types, whose numbers stay as they are.

use skep_btf::{Btf, Builder, FuncLinkage, Kind, Type, TypeDef, TypeId};

use crate::resolved::FuncInfo;
use crate::target::Feature;
use crate::{ProgType, Spec, Target};

const TAG: &str = "arg:ctx";

/// The tagged arguments of an object, and the types made for them.
pub(super) struct ArgCtx<'a> {
    btf: Option<&'a Btf>,
    /// Global function and index of the argument.
    tagged: Vec<(TypeId, u32)>,
    made: Option<Builder>,
}

impl<'a> ArgCtx<'a> {
    pub(super) fn new(spec: &'a Spec, target: &dyn Target) -> ArgCtx<'a> {
        let mut it = ArgCtx { btf: spec.btf.as_ref(), tagged: Vec::new(), made: None };
        let Some(btf) = it.btf else { return it };
        for tag in btf.of_kind(Kind::DECL_TAG) {
            if let Ok(Type::DeclTag(tag)) = btf.type_by_id(tag)
                && tag.name() == TAG
                && let Some(component) = tag.component()
                && let Ok(Type::Func(func)) = btf.type_by_id(tag.type_id())
                && func.linkage() == FuncLinkage::GLOBAL
                && !verified_with_callers(spec, tag.type_id())
            {
                it.tagged.push((tag.type_id(), component));
            }
        }
        if !it.tagged.is_empty() && target.supports(Feature::ArgCtxTag) {
            it.tagged.clear();
        }
        it
    }

    /// The object's types with what was added; `None` when nothing was.
    pub(super) fn finish(self) -> Option<Btf> {
        let btf = self.btf?;
        // What was just built is well-formed.
        Btf::parse(self.made?.finish(btf.endian()).ok()?).ok()
    }

    /// Gives the functions of a program the types that the kernel looks for.
    pub(super) fn fix(&mut self, prog_type: ProgType, functions: &mut [FuncInfo]) -> Result<(), skep_btf::Error> {
        let (Some(btf), Some(context)) = (self.btf, context(prog_type)) else {
            return Ok(());
        };
        let mut pointer = None;
        for function in functions {
            let original = function.type_id;
            let arguments: Vec<u32> =
                self.tagged.iter().filter(|(id, _)| *id == original).map(|(_, argument)| *argument).collect();
            let (Type::Func(func), false) = (btf.type_by_id(original)?, arguments.is_empty()) else {
                continue;
            };
            let Type::FuncProto(proto) = btf.type_by_id(func.proto())? else {
                continue;
            };
            let params: Vec<(&str, TypeId)> = proto.params().map(|it| (it.name, it.type_id)).collect();
            let wanted = |&argument: &u32| {
                let param = params.get(argument as usize);
                param.is_some_and(|(_, id)| needs_fix(btf, *id, prog_type, context))
            };
            let arguments: Vec<u32> = arguments.into_iter().filter(wanted).collect();
            if arguments.is_empty() {
                continue;
            }
            let builder = self.made.get_or_insert_with(|| Builder::from_btf(btf));
            let pointer = match pointer {
                Some(pointer) => pointer,
                None => {
                    let of = builder.add(TypeDef::Struct { name: context, size: 0, members: &[] })?;
                    *pointer.insert(builder.add(TypeDef::Ptr(of))?)
                }
            };
            let mut params = params;
            for &argument in &arguments {
                params[argument as usize].1 = pointer;
            }
            let proto = builder.add(TypeDef::FuncProto { result: proto.result(), params: &params })?;
            function.type_id = builder.add(TypeDef::Func { name: func.name(), proto, linkage: func.linkage() })?;
            for argument in arguments {
                builder.add(TypeDef::DeclTag { tag: TAG, type_id: function.type_id, component: Some(argument) })?;
            }
        }
        Ok(())
    }
}

/// Whether a function that looks global will be marked static when the types are uploaded.
fn verified_with_callers(spec: &Spec, func: TypeId) -> bool {
    spec.functions.iter().any(|it| it.btf_func == Some(func) && it.is_static())
}

/// Whether an argument of this type is not yet what the kernel looks for, but may stand for a context.
fn needs_fix(btf: &Btf, id: TypeId, prog_type: ProgType, context: &str) -> bool {
    let Ok((_, Type::Ptr(pointer))) = btf.resolve(id) else {
        return false;
    };
    let pt_regs = matches!(prog_type, ProgType::KPROBE | ProgType::PERF_EVENT);
    if pt_regs
        && let Ok((_, Type::Typedef(typedef))) = btf.strip_qualifiers(pointer.type_id())
        && typedef.name() == "bpf_user_pt_regs_t"
    {
        return false;
    }
    match btf.resolve(pointer.type_id()) {
        Ok((_, Type::Void)) => true,
        Ok((_, Type::Struct(found))) if found.name() == context => false,
        // What `bpf_user_pt_regs_t` is, by architecture.
        Ok((_, Type::Struct(found))) if pt_regs => {
            matches!(found.name(), "pt_regs" | "user_pt_regs" | "user_regs_struct")
        }
        Ok((_, Type::Int(found))) => {
            matches!(prog_type, ProgType::RAW_TRACEPOINT | ProgType::RAW_TRACEPOINT_WRITABLE) && found.size() == 8
        }
        // Left alone: the verifier says what it thinks of it.
        _ => false,
    }
}

/// The structure that the kernel takes for a program type's context (`find_canonical_prog_ctx_type`, kernel/bpf/btf.c);
/// `None` for types whose context has no name.
fn context(prog_type: ProgType) -> Option<&'static str> {
    Some(match prog_type {
        ProgType::CGROUP_DEVICE => "bpf_cgroup_dev_ctx",
        ProgType::CGROUP_SOCK => "bpf_sock",
        ProgType::CGROUP_SOCK_ADDR => "bpf_sock_addr",
        ProgType::CGROUP_SOCKOPT => "bpf_sockopt",
        ProgType::CGROUP_SYSCTL => "bpf_sysctl",
        ProgType::CGROUP_SKB
        | ProgType::FLOW_DISSECTOR
        | ProgType::LWT_IN
        | ProgType::LWT_OUT
        | ProgType::LWT_SEG6LOCAL
        | ProgType::LWT_XMIT
        | ProgType::SCHED_ACT
        | ProgType::SCHED_CLS
        | ProgType::SK_SKB
        | ProgType::SOCKET_FILTER => "__sk_buff",
        ProgType::KPROBE => "bpf_user_pt_regs_t",
        ProgType::NETFILTER => "bpf_nf_ctx",
        ProgType::PERF_EVENT => "bpf_perf_event_data",
        ProgType::RAW_TRACEPOINT | ProgType::RAW_TRACEPOINT_WRITABLE => "bpf_raw_tracepoint_args",
        ProgType::SK_LOOKUP => "bpf_sk_lookup",
        ProgType::SK_MSG => "sk_msg_md",
        ProgType::SK_REUSEPORT => "sk_reuseport_md",
        ProgType::SOCK_OPS => "bpf_sock_ops",
        ProgType::XDP => "xdp_md",
        _ => return None,
    })
}
