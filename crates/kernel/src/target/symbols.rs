//! Addresses of a few of the kernel's symbols without its whole list, which takes 40 ms: a program asks
//! (`bpf_kallsyms_lookup_name`, kernel 5.16).

use skep_insn::build::{add, branch, call, exit, load, load_imm64, mov, slots, store};
use skep_insn::{Cond, Endian, Reg, Size, helpers, slots_to_bytes};
use skep_spec::program::ProgType;
use skep_sys::Errno;
use skep_sys::bpf::{ProgLoad, flags};

/// Where the name and the address lie in the frame.
const NAME: i16 = -72;
const ADDRESS: i16 = -8;

/// The address of each symbol, `None` for those that there are not.
///
/// # Errors
///
/// Where the caller may not load such programs, the kernel has no such helper (before 5.16), or it hides its addresses.
pub(super) fn ask(names: &[&str]) -> Result<Vec<Option<u64>>, Errno> {
    let mut insns = vec![mov(Reg::R6, Reg::R1)];
    for (index, name) in names.iter().enumerate() {
        let mut bytes = name.as_bytes().to_vec();
        if bytes.len() >= usize::from((ADDRESS - NAME).unsigned_abs()) {
            return Err(Errno::ENAMETOOLONG);
        }
        bytes.push(0);
        let len = bytes.len() as i32;
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        for (at, word) in bytes.as_chunks::<8>().0.iter().enumerate() {
            insns.push(load_imm64(Reg::R1, u64::from_ne_bytes(*word)));
            insns.push(store(Size::Dw, Reg::FP, NAME + 8 * at as i16, Reg::R1));
        }
        insns.extend([
            store(Size::Dw, Reg::FP, ADDRESS, 0),
            mov(Reg::R1, Reg::FP),
            add(Reg::R1, i32::from(NAME)),
            mov(Reg::R2, len),
            mov(Reg::R3, 0),
            mov(Reg::R4, Reg::FP),
            add(Reg::R4, i32::from(ADDRESS)),
            call(helpers::KALLSYMS_LOOKUP_NAME),
            // Anything but "no such symbol" is the end.
            branch(Cond::Eq, Reg::R0, 0, 2),
            branch(Cond::Eq, Reg::R0, -Errno::ENOENT.raw(), 1),
            exit(),
            load(Size::Dw, Reg::R1, Reg::FP, ADDRESS),
            store(Size::Dw, Reg::R6, 8 * index as i16, Reg::R1),
        ]);
    }
    insns.extend([mov(Reg::R0, 0), exit()]);
    let insns = slots_to_bytes(&slots(&insns), Endian::NATIVE);
    let prog_flags = flags::F_SLEEPABLE;
    let load =
        ProgLoad { prog_type: ProgType::SYSCALL.0, insns: &insns, license: c"GPL", prog_flags, ..ProgLoad::default() }
            .load();
    let mut found = vec![0; 8 * names.len()];
    match load.0?.run_syscall(&mut found)? {
        0 => {}
        errno => return Err(Errno::from_raw((errno as i32).wrapping_neg())),
    }
    let addresses = found.as_chunks::<8>().0.iter().map(|bytes| u64::from_ne_bytes(*bytes));
    Ok(addresses.map(|address| (address != 0).then_some(address)).collect())
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    #[test]
    fn the_kernel_tells_what_its_list_says() {
        let names = ["_stext", "skep_has_no_such_symbol", "_etext", "bpf_prog_run_generic_xdp"];
        let list = skep_sys::kallsyms::addresses(names).unwrap();
        match ask(&names) {
            Ok(found) => {
                let listed = names.map(|name| list.get(name).and_then(|all| all.first()).copied());
                assert_eq!(found, listed);
            }
            // Who may not load programs, or may not know addresses.
            Err(errno) => {
                assert_eq!(std::io::Error::from_raw_os_error(errno.raw()).kind(), ErrorKind::PermissionDenied);
            }
        }
    }
}
