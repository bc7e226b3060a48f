//! The BPF programs that are loaded, as places for `fentry:bpf:name`.

use skep_btf::{Btf, Endian, Type, TypeId};
use skep_script::target::BpfFunction;
use skep_spec::target::TargetError;
use skep_sys::Errno;
use skep_sys::bpf::{BtfFd, ProgFd, ProgId, ProgInfo};

use std::os::fd::AsFd;

/// Functions of every program that has types, by the names that these have: the kernel's own are cut at 15 bytes. Sorted.
/// Needs `CAP_SYS_ADMIN`.
pub(super) fn functions() -> Result<Vec<BpfFunction>, TargetError> {
    let cannot = |errno: Errno| format!("cannot list the loaded BPF programs: {errno}");
    let mut found = Vec::new();
    for id in ProgId::all() {
        let id = id.map_err(cannot)?;
        let program = match ProgFd::from_id(id) {
            Ok(program) => program,
            // Unloaded between the list and here.
            Err(Errno::ENOENT) => continue,
            Err(errno) => return Err(cannot(errno).into()),
        };
        let (info, details) = ProgInfo::with_details(program.as_fd()).map_err(cannot)?;
        let Some(btf) = types_of(&info)? else { continue };
        // `struct bpf_func_info`: u32 offset, u32 type; longer in newer kernels perhaps.
        let record = (details.func_info_rec_size as usize).max(8);
        for record in details.func_info.chunks_exact(record) {
            let Some(number) = record.get(4..8).and_then(|it| it.try_into().ok()) else { continue };
            if let Ok(Type::Func(function)) = btf.type_by_id(TypeId(u32::from_ne_bytes(number))) {
                found.push(BpfFunction { program: id.0, name: function.name().to_owned() });
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Types of the program with this number; `None` when there is no such program, or it has no types.
pub(super) fn btf(program: u32) -> Result<Option<Btf>, TargetError> {
    let fd = match ProgFd::from_id(ProgId(program)) {
        Ok(fd) => fd,
        Err(Errno::ENOENT) => return Ok(None),
        Err(errno) => return Err(format!("cannot open BPF program {program}: {errno}").into()),
    };
    let info = fd.info().map_err(|errno| format!("cannot look at BPF program {program}: {errno}"))?;
    types_of(&info)
}

fn types_of(info: &ProgInfo) -> Result<Option<Btf>, TargetError> {
    if info.btf_id.0 == 0 {
        return Ok(None);
    }
    let cannot = |why: &dyn std::fmt::Display| format!("cannot read the types of BPF program {}: {why}", info.id.0);
    let data = BtfFd::from_id(info.btf_id).and_then(|fd| fd.data()).map_err(|errno| cannot(&errno))?;
    let btf = Btf::parse(data).map_err(|error| cannot(&error))?;
    debug_assert!(btf.endian() == if cfg!(target_endian = "little") { Endian::Little } else { Endian::Big });
    Ok(Some(btf))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loaded_programs_have_functions_and_no_program_has_none() {
        match functions() {
            Ok(all) => assert!(all.is_sorted()),
            Err(error) => println!("skipped: needs CAP_SYS_ADMIN ({error})"),
        }
        if let Ok(found) = btf(u32::MAX) {
            assert!(found.is_none());
        }
    }
}
