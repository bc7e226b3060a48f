//! Making the maps of an object.

use std::sync::Arc;

use skep_btf::{Btf, Type, TypeId};
use skep_engine::{Error, ErrorKind};
use skep_spec::map::{DataKind, MapContents, MapOrigin};
use skep_spec::{Map as Declared, MapType};
use skep_sys::page_size;
use skep_vm::{Machine, Map, MapKind, MapSpec};

use crate::map::failed;

/// Makes a map and fills it; `contents` are what only the target could tell.
pub(super) fn make(
    machine: &Machine,
    btf: Option<&Btf>,
    declared: &Declared,
    contents: Option<&[u8]>,
) -> Result<Arc<Map>, Error> {
    let spec = shape(machine, btf, declared)?;
    let what = |verb: &str| format!("cannot {verb} map `{}`", declared.name);
    let map = machine.create_map(&spec).map_err(|error| {
        let failed = failed(&what("create"), error);
        if spec.max_entries == 0 { failed.with_hint("its `max_entries` is 0: give it a size") } else { failed }
    })?;
    let data = match (contents, &declared.contents) {
        (Some(data), _) => data,
        (None, MapContents::Data(data)) => data,
        _ => return Ok(map),
    };
    if spec.kind == MapKind::Arena {
        return map.fill(data).map_err(|error| failed(&what("fill"), error)).map(|()| map);
    }
    // A map is zero as it is made.
    if data.iter().any(|&byte| byte != 0) {
        let mut value = data.to_vec();
        value.resize(spec.value_size as usize, 0);
        map.update(&0u32.to_ne_bytes(), &value, 0).map_err(|error| failed(&what("fill"), error))?;
    }
    let constant = matches!(&declared.origin, MapOrigin::Kconfig)
        || matches!(&declared.origin, MapOrigin::Data(section) if section.kind == DataKind::Rodata);
    if constant {
        map.freeze();
    }
    Ok(map)
}

/// What a map is in this machine: sizes that a Spec leaves open are settled as libbpf settles them.
fn shape(machine: &Machine, btf: Option<&Btf>, map: &Declared) -> Result<MapSpec, Error> {
    let kind = MapKind::from_number(map.map_type.0).ok_or_else(|| {
        Error::new(format!(
            "map `{}` is of type {}, which is not to be had in user space: it needs {}",
            map.name,
            map.map_type,
            needs(map.map_type)
        ))
        .with_kind(ErrorKind::Unsupported)
    })?;
    let mut spec = MapSpec {
        name: map.name.clone(),
        kind,
        key_size: map.key_size,
        value_size: map.value_size,
        max_entries: map.max_entries,
        flags: map.flags,
        extra: map.map_extra,
        lock_off: btf.zip(map.value_type).and_then(|(btf, value)| field_off(btf, value, "bpf_spin_lock")),
        timer_off: btf.zip(map.value_type).and_then(|(btf, value)| field_off(btf, value, "bpf_timer")),
        inner: match &map.inner {
            Some(inner) => Some(Box::new(shape(machine, btf, inner)?)),
            None => None,
        },
    };
    match kind {
        MapKind::PerfEventArray => {
            // A value type here describes events, not elements.
            (spec.key_size, spec.value_size) = (4, 4);
            if spec.max_entries == 0 {
                spec.max_entries = machine.cpus();
            }
        }
        MapKind::CpuMap if spec.max_entries == 0 => spec.max_entries = machine.cpus(),
        MapKind::Ringbuf | MapKind::UserRingbuf => {
            (spec.key_size, spec.value_size) = (0, 0);
            let page = page_size() as u64;
            let pages = u64::from(spec.max_entries).div_ceil(page);
            let size = if pages == 0 { 0 } else { pages.next_power_of_two() * page };
            spec.max_entries = u32::try_from(size).unwrap_or(spec.max_entries);
        }
        _ => {}
    }
    Ok(spec)
}

/// Where a value has a structure of which the kernel knows the meaning.
fn field_off(btf: &Btf, value: TypeId, name: &str) -> Option<u32> {
    let (_, Type::Struct(value)) = btf.resolve(value).ok()? else { return None };
    let is_it = |id| matches!(btf.resolve(id), Ok((_, Type::Struct(it))) if it.name() == name);
    value.members().find(|member| is_it(member.type_id())).map(|member| member.bit_offset() / 8)
}

fn needs(of: MapType) -> &'static str {
    match of {
        MapType::CGROUP_ARRAY | MapType::CGROUP_STORAGE | MapType::PERCPU_CGROUP_STORAGE | MapType::CGRP_STORAGE => {
            "the kernel's control groups"
        }
        MapType::SOCKMAP | MapType::SOCKHASH | MapType::REUSEPORT_SOCKARRAY | MapType::SK_STORAGE => {
            "sockets of the kernel"
        }
        MapType::INODE_STORAGE => "storage that the kernel ties to its objects",
        MapType::STRUCT_OPS => "a structure of the kernel that calls programs",
        _ => "the kernel",
    }
}
