//! What the kernel tells about maps and programs, in terms that need no other call to be understood.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use skep_btf::{Btf, Type, TypeId};
use skep_engine::Error;
use skep_insn::{Endian, InsnIdx, RawInsn, slots_from_bytes};
use skep_spec::{MapType, ProgType, Target as _};
use skep_sys::Errno;
use skep_sys::bpf::{self, BtfFd, BtfId};

use crate::map::failed;
use crate::program::ProgramStats;
use crate::target::LiveTarget;

/// What the kernel tells about a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapInfo {
    /// Its id.
    pub id: u32,
    /// Its name as the kernel keeps it: 15 bytes.
    pub name: String,
    /// Type.
    pub map_type: MapType,
    /// Key size, in bytes.
    pub key_size: u32,
    /// Value size, in bytes, of one CPU's value.
    pub value_size: u32,
    /// Number of entries that fit; bytes for ring buffers, pages for arenas.
    pub max_entries: u32,
    /// `BPF_F_*` flags.
    pub flags: u32,
    /// Type-specific extra: hashes of a bloom filter, the address of an arena (kernel 5.16).
    pub extra: u64,
    /// Id of the types (BTF) that describe key and value; `None` without any.
    pub btf_id: Option<u32>,
    /// Number of the key's type there; `None` when it has none.
    pub key_type: Option<u32>,
    /// Number of the value's type there; `None` when it has none.
    pub value_type: Option<u32>,
    /// Whether only programs may write ([`freeze`](skep_engine::MapHandle::freeze)).
    pub frozen: bool,
    /// Bytes of memory that it takes, as the kernel counts or estimates them; `None` when it does not tell.
    pub memory_bytes: Option<u64>,
    /// Type of the programs in a program array, once it has had one.
    pub owner: Option<ProgType>,
    /// Index of the network device that it was made for; 0 for none.
    pub ifindex: u32,
}

impl MapInfo {
    /// What the kernel tells about the map of a descriptor. `name` is for messages.
    ///
    /// # Errors
    ///
    /// When the descriptor is no map, or the kernel does not tell.
    pub fn of(fd: BorrowedFd<'_>, name: &str) -> Result<MapInfo, Error> {
        let what = |errno| failed(&format!("the kernel does not tell about map `{name}`"), errno);
        let info = bpf::MapInfo::of(fd).map_err(what)?;
        // Without /proc the rest is still worth having.
        let more = bpf::MapFdInfo::of(fd).unwrap_or_default();
        let some = |number: u32| (number != 0).then_some(number);
        Ok(MapInfo {
            id: info.id.0,
            name: info.name,
            map_type: MapType(info.map_type),
            key_size: info.key_size,
            value_size: info.value_size,
            max_entries: info.max_entries,
            flags: info.map_flags,
            extra: info.map_extra,
            btf_id: some(info.btf_id.0),
            key_type: some(info.btf_key_type_id),
            value_type: some(info.btf_value_type_id),
            frozen: more.frozen,
            memory_bytes: more.memlock_bytes,
            owner: more.owner_prog_type.map(ProgType),
            ifindex: info.ifindex,
        })
    }
}

/// What the kernel tells about a program, apart from its code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramInfo {
    /// Its id.
    pub id: u32,
    /// Its name as the kernel keeps it: 15 bytes, or the name of its function in its types.
    pub name: String,
    /// Type.
    pub prog_type: ProgType,
    /// Hash of its instructions, by which tools tell programs apart.
    pub tag: [u8; 8],
    /// When it was loaded, from the machine's start on (`CLOCK_BOOTTIME`).
    pub loaded_at: Duration,
    /// User that loaded it.
    pub uid: u32,
    /// Whether its licence is one that GPL-only helpers may be called under.
    pub gpl_compatible: bool,
    /// Ids of the maps that it uses or holds.
    pub map_ids: Vec<u32>,
    /// Id of its types (BTF); `None` when it was loaded without.
    pub btf_id: Option<u32>,
    /// What it was loaded to be attached to, for programs that say so: id of the BTF (`None`: of a program) and number of the
    /// function there (kernel 5.18).
    pub attach_btf: Option<(Option<u32>, u32)>,
    /// Bytes of instructions after the verifier's rewriting.
    pub code_bytes: u32,
    /// Bytes of machine code; 0 when it is interpreted.
    pub machine_code_bytes: u32,
    /// What was counted about it, instructions that the verifier looked at included.
    pub stats: ProgramStats,
    /// Index of the network device that it was loaded for; 0 for none.
    pub ifindex: u32,
}

impl ProgramInfo {
    /// What the kernel tells about the program of a descriptor. `name` is for messages.
    ///
    /// # Errors
    ///
    /// When the descriptor is no program, or the kernel does not tell.
    pub fn of(fd: BorrowedFd<'_>, name: &str) -> Result<ProgramInfo, Error> {
        let what = |errno| failed(&format!("the kernel does not tell about program `{name}`"), errno);
        let (info, maps) = bpf::ProgInfo::with_maps(fd).map_err(what)?;
        let some = |number: u32| (number != 0).then_some(number);
        Ok(ProgramInfo {
            id: info.id.0,
            prog_type: ProgType(info.prog_type),
            tag: info.tag,
            loaded_at: Duration::from_nanos(info.load_time_ns),
            uid: info.created_by_uid,
            gpl_compatible: info.gpl_compatible,
            map_ids: maps.into_iter().map(|id| id.0).collect(),
            btf_id: some(info.btf_id.0),
            attach_btf: some(info.attach_btf_id).map(|function| (some(info.attach_btf_obj_id.0), function)),
            code_bytes: info.xlated_bytes,
            machine_code_bytes: info.jited_bytes,
            stats: ProgramStats::from_info(&info),
            ifindex: info.ifindex,
            name: info.name,
        })
    }
}

/// The code of a program in the kernel. Parts that the kernel hides are empty: it shows instructions with `CAP_PERFMON` and
/// `CAP_BPF`, addresses and machine code with `CAP_SYS_ADMIN` unless `kernel.kptr_restrict` forbids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProgramCode {
    /// Instructions after the verifier's rewriting.
    pub instructions: Vec<RawInsn>,
    /// Machine code of all functions, one after the other.
    pub machine_code: Vec<u8>,
    /// Its functions, the program itself first; empty for a program without types, unless the kernel tells addresses.
    pub functions: Vec<CodeFunction>,
    /// Where in the source instructions come from, in their order.
    pub lines: Vec<CodeLine>,
}

/// A function of a loaded program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CodeFunction {
    /// Its name; empty when its types are missing or may not be read.
    pub name: String,
    /// Its first instruction.
    pub insn: InsnIdx,
    /// Where its machine code is; 0 when hidden.
    pub address: u64,
    /// Bytes of its machine code.
    pub machine_code_bytes: u32,
    /// Hash of its instructions.
    pub tag: Option<[u8; 8]>,
}

/// A line of source, and where its code begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CodeLine {
    /// Its first instruction.
    pub insn: InsnIdx,
    /// Address of that instruction's machine code; `None` when hidden.
    pub address: Option<u64>,
    /// The file's name; empty when the program's types may not be read.
    pub file: String,
    /// The text of the line.
    pub text: String,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1; 0 when unknown.
    pub column: u32,
}

impl ProgramCode {
    /// Asks for the code of the program of a descriptor. `name` is for messages.
    ///
    /// # Errors
    ///
    /// When the descriptor is no program, or the kernel does not tell.
    pub fn of(fd: BorrowedFd<'_>, name: &str) -> Result<ProgramCode, Error> {
        let what = |errno| failed(&format!("the kernel does not show the code of program `{name}`"), errno);
        let (info, details) = bpf::ProgInfo::with_details(fd).map_err(what)?;
        // Names are worth having, and no reason to fail.
        let types = if info.btf_id.0 == 0 { None } else { types_by_id(info.btf_id.0).ok() };
        let words = |bytes: &[u8], size: u32| -> Vec<Vec<u32>> {
            let records = bytes.chunks_exact((size as usize).max(4));
            records.map(|record| record.chunks_exact(4).map(word).collect()).collect()
        };
        let functions = words(&details.func_info, details.func_info_rec_size);
        let count = functions.len().max(details.jited_ksyms.len());
        let functions = (0..count).map(|at| CodeFunction {
            name: functions.get(at).and_then(|of| function_name(types.as_ref()?, *of.get(1)?)).unwrap_or_default(),
            insn: InsnIdx(functions.get(at).and_then(|of| of.first()).copied().unwrap_or_default()),
            address: details.jited_ksyms.get(at).copied().unwrap_or_default(),
            machine_code_bytes: details.jited_func_lens.get(at).copied().unwrap_or_default(),
            tag: details.prog_tags.get(at).copied(),
        });
        let text = |off: u32| {
            let text = types.as_ref().and_then(|types| types.string_lossy(off).ok());
            text.unwrap_or_default().into_owned()
        };
        let lines = words(&details.line_info, details.line_info_rec_size);
        let lines = lines.iter().enumerate().filter_map(|(at, record)| {
            let &[insn, file, line, line_col, ..] = record.as_slice() else { return None };
            Some(CodeLine {
                insn: InsnIdx(insn),
                address: details.jited_line_info.get(at).copied(),
                file: text(file),
                text: text(line).trim().to_owned(),
                line: line_col >> 10,
                column: line_col & 0x3ff,
            })
        });
        Ok(ProgramCode {
            instructions: slots_from_bytes(&details.xlated, Endian::NATIVE).unwrap_or_default(),
            functions: functions.collect(),
            lines: lines.collect(),
            machine_code: details.jited,
        })
    }
}

fn word(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}

fn function_name(types: &Btf, id: u32) -> Option<String> {
    match types.type_by_id(TypeId(id)).ok()? {
        Type::Func(of) => Some(of.name().to_owned()),
        _ => None,
    }
}

/// The types (BTF) with this id: a program's, the kernel's own (1), a module's. Needs `CAP_SYS_ADMIN`.
///
/// # Errors
///
/// When there are none of that id, or the right is missing.
pub fn types_by_id(id: u32) -> Result<Btf, Error> {
    let what = |errno| failed(&format!("cannot open the types with id {id}"), errno);
    let fd = BtfFd::from_id(BtfId(id)).map_err(|errno| match errno {
        Errno::ENOENT => Error::new(format!("there are no types with id {id}")).with_source(errno),
        errno => what(errno),
    })?;
    let info = fd.info().map_err(what)?;
    let wrong = |cause| Error::new(format!("the types with id {id} are not understood: {cause}"));
    let target = LiveTarget::shared();
    let kernels = || -> Result<Option<Btf>, Error> { target.btf().map_err(|cause| Error::new(cause.to_string())) };
    if info.is_kernel
        && info.name == "vmlinux"
        && let Some(btf) = kernels()?
    {
        return Ok(btf);
    }
    let data = fd.data().map_err(what)?;
    if info.is_kernel && info.name != "vmlinux" {
        let base =
            kernels()?.ok_or_else(|| Error::new("the kernel has no types for those of its modules to refer to"))?;
        return Btf::parse_split(data, &base).map_err(wrong);
    }
    Btf::parse(data).map_err(wrong)
}
