//! struct_ops maps in the layout of the kernel.
//!
//! The object holds a variable of its own `struct NAME` (a flavour is possible). The kernel wants the map's value to be
//! its `struct bpf_struct_ops_NAME`, in which one member is its own `struct NAME`. Members are carried over by name: plain
//! data of the same kind and size is copied, a function pointer becomes a place for a program's descriptor. A member that
//! the kernel does not have is left out when the object has it as zero, or when it is a program, which then is not loaded
//! (libbpf does the same only for members that were zero; ours is the kernel's view of an optional callback).

use skep_btf::core::essential_name;
use skep_btf::{Btf, Composite, Kind, Type, TypeId};

use super::Problem;
use super::types::Types;
use crate::map::{MapContents, StructOps};
use crate::resolved::{AttachBtf, KernelStructOps};
use crate::{MapId, ProgId, Spec};

const VALUE_PREFIX: &str = "bpf_struct_ops_";

/// A struct_ops map and what it came to.
pub(super) struct Found {
    pub(super) map: MapId,
    pub(super) result: Result<Layout, Problem>,
    /// The programs that its members name.
    wanted: Vec<ProgId>,
}

/// The kernel's view of a map.
pub(super) struct Layout {
    pub(super) kernel: KernelStructOps,
    /// The structure that programs attach to, and the member of each.
    at: AttachBtf,
    members: Vec<(ProgId, u32)>,
}

fn variables(spec: &Spec) -> impl Iterator<Item = (MapId, &StructOps)> {
    spec.maps().filter(|(_, map)| map.autocreate).filter_map(|(id, map)| match &map.contents {
        MapContents::StructOps(it) => Some((id, it)),
        _ => None,
    })
}

fn struct_name<'s>(spec: &'s Spec, it: &StructOps) -> Option<&'s str> {
    let (_, found) = spec.btf.as_ref()?.resolve(it.type_id).ok()?;
    Some(essential_name(found.name()))
}

/// The names to look for in the kernel's types.
pub(super) fn names(spec: &Spec) -> Vec<String> {
    let names = variables(spec).filter_map(|(_, it)| struct_name(spec, it));
    names.flat_map(|name| [name.to_string(), format!("{VALUE_PREFIX}{name}")]).collect()
}

pub(super) fn resolve(spec: &Spec, types: &mut Types<'_>) -> Vec<Found> {
    variables(spec)
        .map(|(map, it)| {
            let result = layout(spec, it, types).map_err(|problem| Problem {
                message: format!("struct_ops map `{}`: {}", spec.map(map).name, problem.message),
                hint: problem.hint,
            });
            Found { map, result, wanted: it.programs.iter().map(|(_, program)| *program).collect() }
        })
        .collect()
}

/// The structure and member that a program fills.
pub(super) fn member(found: &[Found], program: ProgId) -> Result<(AttachBtf, u32), Problem> {
    let mut first: Option<(AttachBtf, u32)> = None;
    let mut problem = None;
    for it in found.iter().filter(|it| it.wanted.contains(&program)) {
        let layout = match &it.result {
            Ok(layout) => layout,
            Err(why) => {
                problem = Some(why.clone());
                continue;
            }
        };
        let Some(&(_, member)) = layout.members.iter().find(|(it, _)| *it == program) else {
            problem = Some(Problem::new("the kernel's structure has no member for it"));
            continue;
        };
        match &first {
            None => first = Some((layout.at.clone(), member)),
            Some((at, other)) if *at == layout.at && *other == member => {}
            Some(_) => return Err(Problem::new("it fills different members, which need a program each")),
        }
    }
    first.ok_or_else(|| {
        problem.unwrap_or_else(|| {
            Problem::new("no struct_ops map refers to it")
                .hint("name it in a variable in SEC(\".struct_ops\") or SEC(\".struct_ops.link\")".to_string())
        })
    })
}

fn layout(spec: &Spec, it: &StructOps, types: &mut Types<'_>) -> Result<Layout, Problem> {
    let bad = |err: skep_btf::Error| Problem::new(err.to_string());
    let local = spec.btf.as_ref().ok_or_else(|| Problem::new("the object has no types (BTF)"))?;
    let name = struct_name(spec, it).unwrap_or_default();
    let (_, Type::Struct(ours)) = local.resolve(it.type_id).map_err(bad)? else {
        return Err(Problem::new("its type is not a structure"));
    };
    let value_name = format!("{VALUE_PREFIX}{name}");
    let (module, value_id) = match types.find(None, &value_name, Kind::STRUCT)? {
        Some(place) => (place.at.module, place.at.type_id),
        None => {
            let hint = types.did_you_mean(VALUE_PREFIX, name, Kind::STRUCT);
            return Err(Problem::new(format!("this kernel has no struct_ops `{name}`")).hint(hint));
        }
    };
    // The structure is in the same BTF, or in what that is split from.
    let place = match types.find(module.as_deref(), name, Kind::STRUCT)? {
        Some(place) => Some(place.at.type_id),
        None => types.find(Some("vmlinux"), name, Kind::STRUCT)?.map(|place| place.at.type_id),
    };
    let struct_id = place.ok_or_else(|| Problem::new(format!("this kernel has no struct {name}")))?;
    let kernel = types
        .find(module.as_deref(), &value_name, Kind::STRUCT)?
        .ok_or_else(|| Problem::new(format!("this kernel has no struct {value_name}")))?
        .btf;
    let (Type::Struct(value), Type::Struct(theirs)) =
        (kernel.type_by_id(value_id).map_err(bad)?, kernel.type_by_id(struct_id).map_err(bad)?)
    else {
        return Err(Problem::new(format!("struct {name} is not a structure in this kernel")));
    };
    let base = value
        .members()
        .find(|member| member.type_id() == struct_id)
        .ok_or_else(|| Problem::new(format!("struct {value_name} has no member of type struct {name}")))?
        .bit_offset()
        / 8;

    let mut layout = Layout {
        kernel: KernelStructOps {
            value_type: AttachBtf { module: module.clone(), type_id: value_id },
            data: vec![0; value.size() as usize],
            programs: Vec::new(),
        },
        at: AttachBtf { module, type_id: struct_id },
        members: Vec::new(),
    };
    for member in ours.members() {
        let from = member.bit_offset() / 8;
        if let Some((_, external)) = it.externs.iter().find(|(off, _)| *off == from) {
            let wanted = &spec.external(*external).name;
            return Err(Problem::new(format!("member `{}`: no object defines program `{wanted}`", member.name()))
                .hint("link the object that defines it: `skep build A.bpf.c B.bpf.c -o BOTH.bpf.o`".to_string()));
        }
        let program = it.programs.iter().find(|(off, _)| *off == from).map(|(_, program)| *program);
        let size = local.size_of(member.type_id()).map_err(bad)?;
        let bytes = bytes_at(&it.data, from, size);
        let Some((index, to)) = find_member(theirs, member.name()) else {
            if program.is_none() && bytes.is_some_and(|bytes| bytes.iter().any(|byte| *byte != 0)) {
                return Err(Problem::new(format!("this kernel's struct {name} has no member `{}`", member.name())));
            }
            continue;
        };
        let fail = |what: &str| Err(Problem::new(format!("member `{}`: {what}", member.name())));
        if member.bitfield_size().is_some() || to.bitfield_size().is_some() {
            return fail("bit-fields cannot be carried over");
        }
        let (_, our_type) = local.resolve(member.type_id()).map_err(bad)?;
        let (_, their_type) = kernel.resolve(to.type_id()).map_err(bad)?;
        if our_type.kind() != their_type.kind() {
            return fail(&format!("the object has {}, this kernel {}", our_type.kind(), their_type.kind()));
        }
        let at = base.saturating_add(to.bit_offset() / 8);
        if let Some(program) = program {
            if !is_function_pointer(kernel, to.type_id()) {
                return fail("it is not a function pointer in this kernel");
            }
            if bytes_at(&layout.kernel.data, at, 8).is_none() {
                return fail("it lies outside the kernel's structure");
            }
            layout.kernel.programs.push((at, program));
            layout.members.push((program, index));
            continue;
        }
        if our_type.kind() == Kind::PTR {
            // A pointer without a program stays NULL.
            continue;
        }
        if size != kernel.size_of(to.type_id()).map_err(bad)? {
            return fail("it has another size in this kernel");
        }
        let room = layout.kernel.data.get_mut(at as usize..).and_then(|rest| rest.get_mut(..size as usize));
        match (room, bytes) {
            (Some(room), Some(bytes)) => room.copy_from_slice(bytes),
            _ => return fail("it lies outside the structure"),
        }
    }
    Ok(layout)
}

fn bytes_at(data: &[u8], from: u32, size: u64) -> Option<&[u8]> {
    data.get(from as usize..)?.get(..usize::try_from(size).ok()?)
}

fn find_member<'b>(of: Composite<'b>, name: &str) -> Option<(u32, skep_btf::Member<'b>)> {
    (0..).zip(of.members()).find(|(_, member)| !name.is_empty() && member.name() == name)
}

fn is_function_pointer(btf: &Btf, id: TypeId) -> bool {
    matches!(btf.resolve(id), Ok((_, Type::Ptr(to))) if matches!(btf.resolve(to.type_id()), Ok((_, Type::FuncProto(_)))))
}
