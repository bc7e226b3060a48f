//! The pieces of `union bpf_attr`, one struct per command, as `include/uapi/linux/bpf.h` of Linux 6.18 has them.
//!
//! The kernel refuses (`E2BIG`) an attribute with a non-zero byte behind the last field that it knows, and refuses
//! (`EINVAL`) a non-zero byte behind the last field of the command. Both rules want every byte defined, so no struct here
//! has implicit padding: each gap is a field named `_pad`, and the test below proves it against the kernel's own types.

/// A struct that is passed to the kernel as bytes.
///
/// # Safety
/// The type is `repr(C)`, holds only integers and arrays of integers, has no implicit padding, and the all-zero value is
/// valid.
#[expect(unsafe_code, reason = "the marker trait states what the system call relies on")]
pub(crate) unsafe trait Attr: Copy + 'static {
    /// The all-zero value, from which every attribute starts.
    fn zeroed() -> Self {
        // SAFETY: the trait's contract says that all-zero bytes are a valid value.
        unsafe { std::mem::zeroed() }
    }
}

macro_rules! attrs {
    ($($(#[$meta:meta])* $name:ident { $($field:ident : $ty:ty,)* })*) => {
        $(
            $(#[$meta])*
            #[repr(C)]
            #[derive(Clone, Copy, Debug)]
            pub(crate) struct $name { $(pub(crate) $field: $ty,)* }

            // Fields cover the whole struct: no implicit padding.
            const _: () = assert!(size_of::<$name>() == 0 $(+ size_of::<$ty>())*);

            // SAFETY: `repr(C)`, integer fields only, and the assertion above excludes padding.
            #[expect(unsafe_code, reason = "the macro checks what the trait demands")]
            unsafe impl Attr for $name {}
        )*

        #[cfg(test)]
        pub(crate) const FIELDS: &[(&str, usize, &[(&str, usize)])] = &[
            $((stringify!($name), size_of::<$name>(), &[$((stringify!($field), std::mem::offset_of!($name, $field)),)*]),)*
        ];
    };
}

attrs! {
    MapCreate {
        map_type: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
        map_flags: u32,
        inner_map_fd: u32,
        numa_node: u32,
        map_name: [u8; 16],
        map_ifindex: u32,
        btf_fd: u32,
        btf_key_type_id: u32,
        btf_value_type_id: u32,
        btf_vmlinux_value_type_id: u32,
        map_extra: u64,
        value_type_btf_obj_fd: i32,
        map_token_fd: i32,
        excl_prog_hash: u64,
        excl_prog_hash_size: u32,
        _pad: u32,
    }
    /// `value` is `next_key` for `BPF_MAP_GET_NEXT_KEY`.
    MapElem {
        map_fd: u32,
        _pad: u32,
        key: u64,
        value: u64,
        flags: u64,
    }
    MapBatch {
        in_batch: u64,
        out_batch: u64,
        keys: u64,
        values: u64,
        count: u32,
        map_fd: u32,
        elem_flags: u64,
        flags: u64,
    }
    /// `BPF_MAP_FREEZE`, `BPF_LINK_DETACH`, `BPF_ENABLE_STATS`: one number.
    Single {
        value: u32,
    }
    ProgLoad {
        prog_type: u32,
        insn_cnt: u32,
        insns: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log_buf: u64,
        kern_version: u32,
        prog_flags: u32,
        prog_name: [u8; 16],
        prog_ifindex: u32,
        expected_attach_type: u32,
        prog_btf_fd: u32,
        func_info_rec_size: u32,
        func_info: u64,
        func_info_cnt: u32,
        line_info_rec_size: u32,
        line_info: u64,
        line_info_cnt: u32,
        attach_btf_id: u32,
        attach_prog_fd: u32,
        core_relo_cnt: u32,
        fd_array: u64,
        core_relos: u64,
        core_relo_rec_size: u32,
        log_true_size: u32,
        prog_token_fd: i32,
        fd_array_cnt: u32,
        signature: u64,
        signature_size: u32,
        keyring_id: i32,
    }
    Obj {
        pathname: u64,
        bpf_fd: u32,
        file_flags: u32,
        path_fd: i32,
        _pad: u32,
    }
    ProgAttach {
        target: u32,
        attach_bpf_fd: u32,
        attach_type: u32,
        attach_flags: u32,
        replace_bpf_fd: u32,
        relative: u32,
        expected_revision: u64,
    }
    TestRun {
        prog_fd: u32,
        retval: u32,
        data_size_in: u32,
        data_size_out: u32,
        data_in: u64,
        data_out: u64,
        repeat: u32,
        duration: u32,
        ctx_size_in: u32,
        ctx_size_out: u32,
        ctx_in: u64,
        ctx_out: u64,
        flags: u32,
        cpu: u32,
        batch_size: u32,
        _pad: u32,
    }
    GetId {
        start_id: u32,
        next_id: u32,
        open_flags: u32,
        fd_by_id_token_fd: i32,
    }
    Info {
        bpf_fd: u32,
        info_len: u32,
        info: u64,
    }
    ProgQuery {
        target: u32,
        attach_type: u32,
        query_flags: u32,
        attach_flags: u32,
        prog_ids: u64,
        count: u32,
        _pad: u32,
        prog_attach_flags: u64,
        link_ids: u64,
        link_attach_flags: u64,
        revision: u64,
    }
    RawTracepoint {
        name: u64,
        prog_fd: u32,
        _pad: u32,
        cookie: u64,
    }
    BtfLoad {
        btf: u64,
        btf_log_buf: u64,
        btf_size: u32,
        btf_log_size: u32,
        btf_log_level: u32,
        btf_log_true_size: u32,
        btf_flags: u32,
        btf_token_fd: i32,
    }
    TaskFdQuery {
        pid: u32,
        fd: u32,
        flags: u32,
        buf_len: u32,
        buf: u64,
        prog_id: u32,
        fd_type: u32,
        probe_offset: u64,
        probe_addr: u64,
    }
    /// The union of `link_create` is spelled as the words that its members put there: see `link.rs`.
    LinkCreate {
        prog_fd: u32,
        target: u32,
        attach_type: u32,
        flags: u32,
        words: [u64; 6],
    }
    LinkUpdate {
        link_fd: u32,
        new_fd: u32,
        flags: u32,
        old_fd: u32,
    }
    IterCreate {
        link_fd: u32,
        flags: u32,
    }
    ProgBindMap {
        prog_fd: u32,
        map_fd: u32,
        flags: u32,
    }
    TokenCreate {
        flags: u32,
        bpffs_fd: u32,
    }
    ProgStreamRead {
        stream_buf: u64,
        stream_buf_len: u32,
        stream_id: u32,
        prog_fd: u32,
        _pad: u32,
    }
    /// Kernel 6.19 (`prog_assoc_struct_ops`).
    ProgAssocStructOps {
        map_fd: u32,
        prog_fd: u32,
        flags: u32,
    }
    /// `struct bpf_prog_info`.
    ProgInfo {
        type_: u32,
        id: u32,
        tag: [u8; 8],
        jited_prog_len: u32,
        xlated_prog_len: u32,
        jited_prog_insns: u64,
        xlated_prog_insns: u64,
        load_time: u64,
        created_by_uid: u32,
        nr_map_ids: u32,
        map_ids: u64,
        name: [u8; 16],
        ifindex: u32,
        gpl_compatible: u32,
        netns_dev: u64,
        netns_ino: u64,
        nr_jited_ksyms: u32,
        nr_jited_func_lens: u32,
        jited_ksyms: u64,
        jited_func_lens: u64,
        btf_id: u32,
        func_info_rec_size: u32,
        func_info: u64,
        nr_func_info: u32,
        nr_line_info: u32,
        line_info: u64,
        jited_line_info: u64,
        nr_jited_line_info: u32,
        line_info_rec_size: u32,
        jited_line_info_rec_size: u32,
        nr_prog_tags: u32,
        prog_tags: u64,
        run_time_ns: u64,
        run_cnt: u64,
        recursion_misses: u64,
        verified_insns: u32,
        attach_btf_obj_id: u32,
        attach_btf_id: u32,
        _pad: u32,
    }
    /// `struct bpf_map_info`.
    MapInfo {
        type_: u32,
        id: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
        map_flags: u32,
        name: [u8; 16],
        ifindex: u32,
        btf_vmlinux_value_type_id: u32,
        netns_dev: u64,
        netns_ino: u64,
        btf_id: u32,
        btf_key_type_id: u32,
        btf_value_type_id: u32,
        btf_vmlinux_id: u32,
        map_extra: u64,
        hash: u64,
        hash_size: u32,
        _pad: u32,
    }
    /// `struct bpf_btf_info`.
    BtfInfo {
        btf: u64,
        btf_size: u32,
        id: u32,
        name: u64,
        name_len: u32,
        kernel_btf: u32,
    }
    /// `struct bpf_link_info`: three numbers, then a union, spelled as words: see `info.rs`.
    LinkInfo {
        type_: u32,
        id: u32,
        prog_id: u32,
        _pad: u32,
        words: [u64; 6],
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::process::Command;

    use super::FIELDS;

    /// Names that stand for several of the kernel's, or for words of a union.
    const OURS: [&str; 9] = ["_pad", "target", "relative", "words", "value", "new_fd", "old_fd", "start_id", "count"];

    /// Name, type and offset in bytes of each member.
    type Members = Vec<(String, u32, usize)>;

    /// Every struct of the kernel's BTF that may be an attribute: its members with their offsets in bytes.
    fn kernel_structs() -> Option<Vec<HashMap<String, usize>>> {
        let dump = Command::new("bpftool")
            .args(["btf", "dump", "file", "/sys/kernel/btf/vmlinux"])
            .output()
            .expect("bpftool is missing: run cargo xtask setup");
        let dump = String::from_utf8_lossy(&dump.stdout).into_owned();
        let mut structs: HashMap<u32, (String, Members)> = HashMap::new();
        let mut current = None;
        for line in dump.lines() {
            if let Some(rest) = line.strip_prefix('[') {
                let (id, rest) = rest.split_once("] ")?;
                let kind = rest.split(' ').next()?;
                current = None;
                if kind == "STRUCT" || kind == "UNION" {
                    let name = rest.split('\'').nth(1)?.to_owned();
                    current = id.parse().ok();
                    structs.insert(current?, (name, Vec::new()));
                }
            } else if let (Some(id), Some(name)) = (current, line.split('\'').nth(1)) {
                let number = |key: &str| -> Option<usize> {
                    let rest = line.split_once(key)?.1;
                    rest.split(' ').next()?.parse().ok()
                };
                if let (Some(of), Some(bits)) = (number("type_id="), number("bits_offset=")) {
                    structs.get_mut(&id)?.1.push((name.to_owned(), of as u32, bits / 8));
                }
            }
        }
        let attr = structs.values().find(|(name, _)| name == "bpf_attr")?.1.clone();
        let named = ["bpf_prog_info", "bpf_map_info", "bpf_btf_info", "bpf_link_info"];
        let mut ids: Vec<u32> = attr.iter().map(|(_, of, _)| *of).collect();
        ids.extend(structs.iter().filter(|(_, (name, _))| named.contains(&name.as_str())).map(|(id, _)| *id));
        let flat = ids.iter().filter_map(|id| {
            let mut flat = HashMap::new();
            for (name, of, offset) in &structs.get(id)?.1 {
                // Members of anonymous unions count as members of the struct around them.
                match structs.get(of).filter(|_| name == "(anon)") {
                    Some((_, inner)) => flat.extend(inner.iter().map(|(n, _, o)| (n.clone(), offset + o))),
                    None => {
                        flat.insert(name.clone(), *offset);
                    }
                }
            }
            Some(flat)
        });
        Some(flat.collect())
    }

    #[test]
    fn structs_agree_with_the_kernels_own_types() {
        if !std::path::Path::new("/sys/kernel/btf/vmlinux").exists() {
            println!("skipped: needs kernel BTF");
            return;
        }
        if crate::version::KernelVersion::running() < crate::version::KernelVersion::new(6, 18, 0) {
            println!("skipped: needs kernel 6.18");
            return;
        }
        let kernel = kernel_structs().expect("bpftool's dump has the attributes");
        // The second came with 6.19.
        let compared = |name: &str| !["Single", "ProgAssocStructOps"].contains(&name);
        for (name, size, fields) in FIELDS.iter().filter(|(name, ..)| compared(name)) {
            let fields: Vec<(&str, usize)> = fields
                .iter()
                .filter(|(field, _)| !OURS.contains(field))
                .map(|(field, offset)| (field.trim_end_matches('_'), *offset))
                .collect();
            let found = kernel.iter().any(|of| {
                fields.iter().all(|(field, offset)| of.get(*field) == Some(offset))
                    // gpl_compatible is a bit-field of the word at its offset; nothing of the kernel's lies behind ours.
                    && of.values().all(|offset| offset < size)
            });
            assert!(found, "{name} differs from every attribute of the kernel: {fields:?}");
        }
    }
}
