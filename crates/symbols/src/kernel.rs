//! The kernel's symbols, whole and in order.

use std::borrow::Cow;
use std::ops::ControlFlow;

use skep_sys::kallsyms;

use crate::Symbol;

/// Farther than this from the last symbol before it, an address is in no function. Modules and BPF programs lie apart by more.
const FARTHEST_BYTES: u64 = 4 << 20;

/// A table of symbols by address. Names lie one behind the other: 200,000 strings of their own would cost three times as much.
#[derive(Debug, Default)]
pub(crate) struct Kernel {
    symbols: Vec<Entry>,
    names: Vec<u8>,
    modules: Vec<Vec<u8>>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    address: u64,
    name_at: u32,
    name_len: u16,
    /// Position in `modules`, plus one.
    module: u16,
}

impl Kernel {
    /// Reads all; empty when the kernel does not tell addresses.
    pub(crate) fn read() -> Kernel {
        let mut kernel = Kernel::default();
        // An unreadable file means that nothing has a name.
        let _ = kallsyms::for_each(|symbol| {
            kernel.add(symbol);
            ControlFlow::Continue(())
        });
        // Stable: of several names of one address the first one stays first.
        kernel.symbols.sort_by_key(|entry| entry.address);
        kernel.symbols.dedup_by_key(|entry| entry.address);
        kernel.symbols.shrink_to_fit();
        kernel.names.shrink_to_fit();
        kernel
    }

    fn add(&mut self, symbol: kallsyms::Symbol<'_>) {
        // Per-CPU data before 6.15 counts from 0, and hidden addresses are 0; neither is an address of the kernel.
        let (true, Ok(name_at), Ok(name_len)) =
            (symbol.address >> 63 == 1, u32::try_from(self.names.len()), u16::try_from(symbol.name.len()))
        else {
            return;
        };
        let module = symbol.module.map_or(0, |name| match self.modules.iter().rposition(|known| known == name) {
            Some(index) => index + 1,
            None => {
                self.modules.push(name.to_vec());
                self.modules.len()
            }
        });
        self.names.extend_from_slice(symbol.name);
        self.symbols.push(Entry {
            address: symbol.address,
            name_at,
            name_len,
            module: u16::try_from(module).unwrap_or(0),
        });
    }

    pub(crate) fn find(&self, address: u64) -> Option<Symbol<'_>> {
        let after = self.symbols.partition_point(|entry| entry.address <= address);
        let entry = self.symbols.get(after.checked_sub(1)?)?;
        let off_bytes = address - entry.address;
        if off_bytes > FARTHEST_BYTES {
            return None;
        }
        let at = entry.name_at as usize;
        let module = usize::from(entry.module).checked_sub(1).and_then(|index| self.modules.get(index));
        Some(Symbol {
            name: String::from_utf8_lossy(self.names.get(at..at + usize::from(entry.name_len))?),
            off_bytes,
            module: module.map(|name| String::from_utf8_lossy(name)).map(|name| Cow::Owned(name.into_owned())),
            line: None,
            inlined: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_belongs_to_the_symbol_before_it() {
        let mut kernel = Kernel::default();
        for (address, name, module) in [
            (0xffff_ffff_8100_0000, "first", None),
            (0xffff_ffff_8100_0100, "second", None),
            (0xffff_ffff_c000_0000, "third", Some("ext4")),
            (0x10, "percpu", None),
        ] {
            let symbol =
                kallsyms::Symbol { address, kind: b't', name: str::as_bytes(name), module: module.map(str::as_bytes) };
            kernel.add(symbol);
        }
        let find =
            |address| kernel.find(address).map(|found| format!("{}+{}{:?}", found.name, found.off_bytes, found.module));
        assert_eq!(find(0xffff_ffff_8100_0100).as_deref(), Some("second+0None"));
        assert_eq!(find(0xffff_ffff_8100_00ff).as_deref(), Some("first+255None"));
        assert_eq!(find(0xffff_ffff_c000_0001).as_deref(), Some("third+1Some(\"ext4\")"));
        assert_eq!((find(0x10), find(0xffff_ffff_9000_0000)), (None, None));
    }
}
