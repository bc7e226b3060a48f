//! Making the maps of an object.
//!
//! What depends on the machine is settled as libbpf settles it (`bpf_object__create_maps`); sizes and names are in `shape`.
//!
//! - Types of keys and values are told only for maps that can have them, and not at all when the kernel finds fault.
//! - The template of a map of maps is made first and let go afterwards.
//! - `.rodata` and `.kconfig` are filled and frozen before any program is verified, so that the verifier knows their values.
//! - An arena is mapped, and its globals are copied to its start.
//!
//! Slots of program arrays and maps of maps are filled when everything else is there.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use skep_engine::{Error, LoadOptions};
use skep_spec::digest::program_digest;
use skep_spec::map::{DataKind, MapContents, MapOrigin, Pinning};
use skep_spec::resolved::{BindTarget, KernelStructOps, ResolvedProgram};
use skep_spec::{Map, MapId, MapType, ProgId, Spec};
use skep_sys::bpf::{self, BtfFd, MapCreate, MapFd, flags};
use skep_sys::version::KernelVersion;
use skep_sys::{Errno, memlock};

use super::shape::{Shape, kernel_name};
use crate::map::{KernelMap, failed, map_arena, path_string, pin};
use crate::permission::{self, Tried};
use crate::target::LiveTarget;

/// Where pinned maps go when nobody says otherwise.
const PIN_DIR: &str = "/sys/fs/bpf";

/// What making maps needs to know.
pub(super) struct Maker<'a> {
    pub(super) spec: &'a Spec,
    pub(super) options: &'a LoadOptions,
    pub(super) target: &'a LiveTarget,
    pub(super) token: Option<BorrowedFd<'a>>,
    pub(super) btf: Option<&'a BtfFd>,
    /// Values that only the target could tell.
    pub(super) contents: HashMap<MapId, &'a [u8]>,
    /// The programs, whose instructions exclusive maps are made for.
    pub(super) programs: &'a [(ProgId, Result<ResolvedProgram, skep_spec::resolve::Error>)],
    /// Kernel layouts of struct_ops maps, or why there is none.
    pub(super) struct_ops: HashMap<MapId, Result<&'a KernelStructOps, &'a str>>,
}

impl Maker<'_> {
    /// Makes one map, or takes the pinned one, and fills it.
    pub(super) fn make(&self, id: MapId) -> Result<KernelMap, Error> {
        let map = self.spec.map(id);
        let pin_path = match map.pinning {
            Pinning::None => None,
            Pinning::ByName => {
                let folder = self.options.pin_dir.as_deref().unwrap_or(Path::new(PIN_DIR));
                Some(folder.join(&map.name))
            }
        };
        if let Some(path) = &pin_path
            && let Some(pinned) = self.pinned(map, path)?
        {
            return Ok(pinned);
        }
        let fd = self.create(id, map)?;
        let made = known(fd, map)?;
        self.fill(id, map, &made)?;
        if let Some(path) = &pin_path {
            pin(made.as_fd(), path, &format!("map `{}`", map.name))?;
        }
        Ok(made)
    }

    fn create(&self, id: MapId, map: &Map) -> Result<MapFd, Error> {
        if let MapOrigin::StructOps = map.origin {
            return self.create_struct_ops(id, map);
        }
        let inner = match (&map.inner, map.map_type) {
            (Some(inner), _) => Some(self.create_plain(inner, &Shape::of(inner), "", None)?),
            (None, MapType::ARRAY_OF_MAPS | MapType::HASH_OF_MAPS) => {
                return Err(Error::new(format!("map `{}` does not say what the maps inside it are", map.name))
                    .with_hint("declare one with `__array(values, struct { ... })`")
                    .with_source(Errno::EINVAL));
            }
            (None, _) => None,
        };
        let name = kernel_name(&self.spec.name, map);
        self.create_plain(map, &Shape::of(map), &name, inner.as_ref().map(AsFd::as_fd))
    }

    /// One `BPF_MAP_CREATE`, with less where the kernel is older than the map.
    fn create_plain(
        &self,
        map: &Map,
        shape: &Shape,
        name: &str,
        inner: Option<BorrowedFd<'_>>,
    ) -> Result<MapFd, Error> {
        let only = map.exclusive_to.as_deref().map(|program| self.digest_of(map, program)).transpose()?;
        let mut create = MapCreate {
            exclusive_hash: only.as_ref(),
            map_type: shape.map_type.0,
            key_size: shape.key_size,
            value_size: shape.value_size,
            max_entries: shape.max_entries,
            map_flags: shape.flags,
            inner_map: inner,
            numa_node: map.numa_node.unwrap_or(0),
            name: if KernelVersion::running() >= KernelVersion::new(4, 15, 0) { name } else { "" },
            map_extra: shape.map_extra,
            token: self.token,
            ..MapCreate::default()
        };
        if let Some(btf) = self.btf
            && shape.map_type.takes_types()
        {
            let value_type = match &map.origin {
                MapOrigin::Data(section) => map.value_type.or(section.datasec),
                _ => map.value_type,
            };
            if map.key_type.is_some() || value_type.is_some() {
                create.btf = Some(btf.as_fd());
                create.btf_key_type_id = map.key_type.map_or(0, |id| id.0);
                create.btf_value_type_id = value_type.map_or(0, |id| id.0);
            }
        }
        let is_data = matches!(map.origin, MapOrigin::Data(_) | MapOrigin::Kconfig);
        let mut lifted = false;
        loop {
            let errno = match create.create() {
                Ok(fd) => return Ok(fd),
                Err(errno) => errno,
            };
            match errno {
                Errno::EPERM if !lifted && memlock::is_counted() => {
                    lifted = true;
                    if memlock::lift().is_err() {
                        return Err(self.not_created(map, shape, errno));
                    }
                }
                // The kernel takes no types for this map (ENOTSUPP), or finds that they do not fit (EINVAL): libbpf makes
                // the map without them, too.
                _ if create.btf.is_some() && errno != Errno::EPERM && errno != Errno::ENOMEM => {
                    create.btf = None;
                    create.btf_key_type_id = 0;
                    create.btf_value_type_id = 0;
                }
                Errno::EINVAL
                    if is_data && create.map_flags & flags::F_MMAPABLE != 0 && !self.target.features().array_mmap() =>
                {
                    create.map_flags &= !flags::F_MMAPABLE;
                }
                _ => return Err(self.not_created(map, shape, errno)),
            }
        }
    }

    /// By what the kernel will know the only program of an exclusive map.
    fn digest_of(&self, map: &Map, program: &str) -> Result<[u8; 32], Error> {
        let cannot = |why: &str| {
            Error::new(format!("map `{}` cannot be for program `{program}` alone: {why}", map.name))
                .with_source(Errno::EINVAL)
        };
        let Some(id) = self.spec.program_named(program) else { return Err(cannot("there is none of this name")) };
        let resolved = match self.programs.iter().find(|(known, _)| *known == id) {
            Some((_, Ok(resolved))) => resolved,
            Some((_, Err(_))) => return Err(cannot("this kernel lacks what the program needs")),
            None => return Err(cannot("the program is switched off")),
        };
        let by_number = |bind: &skep_spec::resolved::Bind| {
            matches!(bind.target, BindTarget::ModuleKsym { .. } | BindTarget::ModuleKfunc { .. })
        };
        if resolved.binds.iter().any(by_number) {
            return Err(cannot("it refers to a kernel module, by a number that is not known yet"));
        }
        Ok(program_digest(&resolved.insns))
    }

    fn create_struct_ops(&self, id: MapId, map: &Map) -> Result<MapFd, Error> {
        let ops = match self.struct_ops.get(&id) {
            Some(Ok(ops)) => ops,
            Some(Err(reason)) => {
                return Err(Error::new(format!("struct_ops map `{}`: {reason}", map.name)).with_source(Errno::ENOTSUPP));
            }
            None => return Err(Error::new(format!("struct_ops map `{}` was not fitted to this kernel", map.name))),
        };
        let module = match &ops.value_type.module {
            Some(name) => Some(self.module_btf(name, map)?),
            None => None,
        };
        let mut create = MapCreate {
            map_type: MapType::STRUCT_OPS.0,
            key_size: 4,
            value_size: ops.data.len() as u32,
            max_entries: 1,
            map_flags: map.flags,
            name: &map.name,
            btf: self.btf.map(AsFd::as_fd),
            btf_vmlinux_value_type_id: ops.value_type.type_id.0,
            value_type_btf: module.as_ref().map(AsFd::as_fd),
            token: self.token,
            ..MapCreate::default()
        };
        if let MapContents::StructOps(contents) = &map.contents
            && contents.link
        {
            create.map_flags |= flags::F_LINK;
        }
        create.create().map_err(|errno| self.not_created(map, &Shape::of(map), errno))
    }

    fn module_btf(&self, name: &str, map: &Map) -> Result<BtfFd, Error> {
        match self.target.module_btf_fd(name) {
            Ok(Some(fd)) => Ok(fd),
            Ok(None) => {
                Err(Error::new(format!("map `{}` needs the types of module `{name}`, which is not loaded", map.name))
                    .with_hint(format!("load it with `modprobe {name}`")))
            }
            Err(errno) => Err(failed(&format!("cannot open the types of module `{name}`"), errno)),
        }
    }

    fn not_created(&self, map: &Map, shape: &Shape, errno: Errno) -> Error {
        let error = failed(&format!("cannot create map `{}` ({shape})", map.name), errno);
        match errno {
            Errno::EPERM => permission::explained(error, Tried::Map),
            Errno::E2BIG | Errno::EINVAL
                if map.exclusive_to.is_some() && KernelVersion::running() < KernelVersion::new(6, 18, 0) =>
            {
                error.with_hint("maps for one program alone need kernel 6.18: leave out `make_exclusive`")
            }
            Errno::EINVAL if shape.max_entries == 0 && !shape.map_type.is_storage() => {
                error.with_hint("its `max_entries` is 0: give it a size")
            }
            Errno::EINVAL if self.target.features().map_type(shape.map_type) == Err(Errno::EINVAL) => {
                error.with_hint(format!("this kernel has no maps of type {}", shape.map_type))
            }
            Errno::EINVAL if shape.value_size == 0 && shape.has_values() => {
                error.with_hint("its value has no size: give it a `value_size` or a value type")
            }
            Errno::E2BIG | Errno::ENOMEM => {
                error.with_hint("it is too large for this machine: lower its `max_entries`")
            }
            _ => error,
        }
    }

    /// The map that is pinned at `path`, if it is there and fits.
    fn pinned(&self, map: &Map, path: &Path) -> Result<Option<KernelMap>, Error> {
        let fd = match bpf::obj_get(None, &path_string(path)?, 0) {
            Ok(bpf::Object::Map(fd)) => fd,
            Ok(_) => return Err(Error::new(format!("{} is pinned, but is not a map", path.display()))),
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => {
                let error = failed(&format!("cannot open the pinned map {}", path.display()), errno);
                return Err(match errno {
                    Errno::EPERM | Errno::EACCES => permission::explained(error, Tried::Map),
                    _ => error,
                });
            }
        };
        let info =
            fd.info().map_err(|errno| failed(&format!("the kernel does not tell about {}", path.display()), errno))?;
        let differences = Shape::of(map).differences(&info);
        if differences.is_empty() {
            return known(fd, map).map(Some);
        }
        if self.options.replace_pinned {
            std::fs::remove_file(path)
                .map_err(|error| Error::new(format!("cannot remove {}", path.display())).with_source(error))?;
            return Ok(None);
        }
        Err(Error::new(format!(
            "map `{}` does not fit the one pinned at {}: {}",
            map.name,
            path.display(),
            differences.join(", ")
        ))
        .with_hint(format!("remove it with `rm {}`, or ask for it to be replaced", path.display()))
        .with_source(Errno::EINVAL))
    }

    /// Puts the first contents in, and freezes what must not change.
    fn fill(&self, id: MapId, map: &Map, made: &KernelMap) -> Result<(), Error> {
        let data: &[u8] = match (self.contents.get(&id), &map.contents) {
            (Some(data), _) => data,
            (None, MapContents::Data(data)) => data,
            _ => return Ok(()),
        };
        let what = |errno| failed(&format!("cannot fill map `{}`", map.name), errno);
        if map.map_type == MapType::ARENA {
            return made.memory()?.write(0, data).map_err(what);
        }
        let frozen = matches!(&map.origin, MapOrigin::Kconfig)
            || matches!(&map.origin, MapOrigin::Data(section) if section.kind == DataKind::Rodata);
        // A map is zero as it is made.
        if data.iter().any(|&byte| byte != 0) {
            let mut value = data.to_vec();
            value.resize(made.fd().value_len(), 0);
            made.fd().update(&0u32.to_ne_bytes(), &value, flags::ANY).map_err(what)?;
        }
        if frozen {
            match made.fd().freeze() {
                // Kernels before 5.2 cannot freeze, and do not look at the values either.
                Ok(()) | Err(Errno::EINVAL) => {}
                Err(errno) => return Err(failed(&format!("cannot freeze map `{}`", map.name), errno)),
            }
        }
        Ok(())
    }
}

/// The maps that the caller has in place of the object's.
///
/// # Errors
///
/// When the object has no such map, or another one: unlike a map that cannot be made, this is never what the caller wants.
pub(super) fn existing(spec: &Spec, options: &LoadOptions) -> Result<HashMap<MapId, KernelMap>, Error> {
    let mut found = HashMap::new();
    for (name, fd) in &options.existing_maps {
        let id = spec.find_map(name)?;
        let map = spec.map(id);
        if matches!(map.origin, MapOrigin::StructOps | MapOrigin::JumpTable) {
            return Err(Error::new(format!("map `{name}` cannot be another: it is made for the object's programs")));
        }
        let fd = fd.try_clone().map_err(|error| Error::new(format!("cannot use another map as `{name}`: {error}")))?;
        let fd = MapFd::from_fd(fd)
            .map_err(|errno| failed(&format!("cannot use this descriptor as map `{name}`: it is no map"), errno))?;
        let info = fd.info().map_err(|errno| failed("the kernel does not tell about the map", errno))?;
        let differences = Shape::of(map).differences(&info);
        if !differences.is_empty() {
            return Err(Error::new(format!(
                "map `{name}` does not fit the one in its place (id {}): {}",
                info.id,
                differences.join(", ")
            ))
            .with_hint("change the object's map before it is loaded, or give a map like it")
            .with_source(Errno::EINVAL));
        }
        found.insert(id, known(fd, map)?);
    }
    Ok(found)
}

/// A map that was made or found, with what the kernel says about it.
pub(crate) fn known(fd: MapFd, map: &Map) -> Result<KernelMap, Error> {
    let info =
        fd.info().map_err(|errno| failed(&format!("the kernel does not tell about map `{}`", map.name), errno))?;
    let arena = if map.map_type == MapType::ARENA {
        let arena = map_arena(fd.as_fd(), info.max_entries, map.map_extra).map_err(|errno| {
            let error = failed(&format!("cannot map the memory of arena `{}`", map.name), errno);
            match errno {
                Errno::EEXIST => error.with_hint(format!(
                    "something is mapped at {:#x} already: choose another address in `map_extra`, or 0",
                    map.map_extra
                )),
                _ => error,
            }
        })?;
        Some(arena)
    } else {
        None
    };
    Ok(KernelMap::new(fd, &info, &map.name, arena))
}
