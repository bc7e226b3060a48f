//! The frames behind the ids of stacks.

use skep_engine::{MapId, Session};
use skep_spec::MapType;
use skep_symbols::{Options, Symbol, Symbols};
use skep_view::Stacks;

/// `BPF_F_STACK_BUILD_ID`: places in files instead of addresses.
const BUILD_IDS: u32 = 1 << 5;

/// The maps of stacks of a session, and what their addresses are called.
pub(crate) struct StackMaps<'s> {
    session: &'s dyn Session,
    maps: Vec<MapId>,
    symbols: Symbols,
}

impl<'s> StackMaps<'s> {
    pub(crate) fn of(session: &'s dyn Session) -> StackMaps<'s> {
        let maps = session.spec().maps().filter(|(_, map)| map.map_type == MapType::STACK_TRACE);
        let maps: Vec<MapId> = maps.map(|(id, _)| id).collect();
        let symbols = Symbols::new(Options::default());
        if !maps.is_empty() {
            // Processes that end before their stacks are shown have no names without it.
            let _ = symbols.watch();
        }
        StackMaps { session, maps, symbols }
    }

    /// Takes in what processes have mapped meanwhile.
    pub(crate) fn catch_up(&self) {
        if !self.maps.is_empty() {
            self.symbols.catch_up();
        }
    }

    /// The line of an address, to which a call returns unless it is `exact`. That is then set for the one around it.
    fn frame(&self, address: u64, task: Option<u32>, exact: &mut bool) -> String {
        // The kernel's half of the addresses, on every machine.
        let symbol = match (task, std::mem::take(exact)) {
            _ if address >> 63 == 1 => self.symbols.kernel(address),
            (Some(task), true) => self.symbols.user(task, address),
            (Some(task), false) => self.symbols.caller(task, address),
            (None, _) => None,
        };
        *exact = symbol.as_ref().is_some_and(Symbol::is_signal_return);
        match symbol {
            Some(Symbol { name, off_bytes, module, .. }) => {
                let module = module.map(|module| format!(" [{module}]")).unwrap_or_default();
                format!("{name}+{off_bytes}{module}")
            }
            None => {
                let file = task.and_then(|task| self.symbols.file(task, address));
                let file = file.map(|place| format!(" [{}]", place.shown)).unwrap_or_default();
                format!("{address:#x}{file}")
            }
        }
    }
}

impl Stacks for StackMaps<'_> {
    fn frames(&self, id: u32, task: Option<u32>) -> Vec<String> {
        let mut stacks = self.maps.iter().filter_map(|map| {
            let value = self.session.map(*map)?.lookup(&id.to_ne_bytes()).ok().flatten()?;
            Some((self.session.spec().map(*map).flags & BUILD_IDS != 0, value))
        });
        // An id does not tell its map: where two have one of this number, either may be another stack.
        match stacks.next().filter(|_| stacks.next().is_none()) {
            None => Vec::new(),
            Some((true, value)) => value.as_chunks::<32>().0.iter().map_while(place).collect(),
            Some((false, value)) => {
                let addresses = value.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word));
                let mut exact = true;
                addresses.take_while(|address| *address != 0).map(|it| self.frame(it, task, &mut exact)).collect()
            }
        }
    }
}

/// One `struct bpf_stack_build_id` (include/uapi/linux/bpf.h): a status, an id of 20 bytes, and an offset or an address.
fn place(entry: &[u8; 32]) -> Option<String> {
    /// `BPF_STACK_BUILD_ID_VALID`.
    const VALID: i32 = 1;
    /// `BPF_STACK_BUILD_ID_IP`: the file has none, or could not be read.
    const ADDRESS: i32 = 2;
    let (status, rest) = entry.split_first_chunk::<4>()?;
    let (id, at) = rest.split_first_chunk::<20>()?;
    let at = u64::from_ne_bytes(*at.first_chunk()?);
    match i32::from_ne_bytes(*status) {
        VALID => {
            let digits = id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            Some(format!("{digits}+{at:#x}"))
        }
        ADDRESS => Some(format!("{at:#x}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_in_files_have_their_build_id() {
        let entry = |status: i32, at: u64| {
            let mut entry = [0xabu8; 32];
            entry[..4].copy_from_slice(&status.to_ne_bytes());
            entry[24..].copy_from_slice(&at.to_ne_bytes());
            place(&entry)
        };
        assert_eq!(entry(1, 0x1234), Some(format!("{}+0x1234", "ab".repeat(20))));
        assert_eq!(entry(2, 0x7f00), Some("0x7f00".to_owned()));
        assert_eq!(entry(0, 0x7f00), None);
    }
}
