//! Link layers, and how their packets become Ethernet frames.

use super::ETHERNET;

const ETH_P_IP: [u8; 2] = [0x08, 0x00];
const ETH_P_IPV6: [u8; 2] = [0x86, 0xdd];

/// A link layer that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    Ethernet,
    /// An IP packet alone.
    Raw,
    /// A word before the packet that says which protocol it is, in the byte order of whoever wrote it.
    Null,
    /// The header that Linux makes up where it has several devices (`any`): 16 bytes, the protocol last.
    Cooked,
    /// The newer one: 20 bytes, the protocol first.
    Cooked2,
}

impl Link {
    /// By the number of the format; `None` for one that is not understood.
    pub(super) fn from_number(number: u32) -> Option<Link> {
        Some(match number {
            ETHERNET => Link::Ethernet,
            0 | 108 => Link::Null,
            12 | 14 | 101 | 228 | 229 => Link::Raw,
            113 => Link::Cooked,
            276 => Link::Cooked2,
            _ => return None,
        })
    }

    /// Makes an Ethernet frame of a packet, in place. What is too short for its own header becomes a frame without content.
    /// `len`, what the packet had on the wire, changes with it.
    pub(super) fn make_ethernet(self, data: &mut Vec<u8>, len: &mut u32) {
        let before = data.len();
        let by_version = |packet: Option<&u8>| match packet.map(|first| first >> 4) {
            Some(6) => ETH_P_IPV6,
            _ => ETH_P_IP,
        };
        let (behind, protocol) = match self {
            Link::Ethernet => return,
            Link::Raw => (0, by_version(data.first())),
            Link::Null => (4, by_version(data.get(4))),
            Link::Cooked => (16, [data.get(14), data.get(15)].map(|byte| byte.copied().unwrap_or(0))),
            Link::Cooked2 => (20, [data.first(), data.get(1)].map(|byte| byte.copied().unwrap_or(0))),
        };
        let header = [[0; 12].as_slice(), &protocol].concat();
        data.splice(..behind.min(data.len()), header);
        let change = data.len() as i64 - before as i64;
        *len = u32::try_from(i64::from(*len) + change).unwrap_or(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_without_ethernet_get_a_header() {
        let frame = |link: Link, bytes: &[u8]| {
            let mut data = bytes.to_vec();
            // Three bytes were cut off, and still are.
            let mut len = data.len() as u32 + 3;
            link.make_ethernet(&mut data, &mut len);
            assert_eq!(len as usize, data.len() + 3);
            data
        };
        assert_eq!(frame(Link::Raw, &[0x45, 7])[12..], [8, 0, 0x45, 7]);
        assert_eq!(frame(Link::Null, &[30, 0, 0, 0, 0x60])[12..], [0x86, 0xdd, 0x60]);
        let mut cooked = vec![0; 14];
        cooked.extend([0x08, 0x06, 1, 2]);
        assert_eq!(frame(Link::Cooked, &cooked)[12..], [8, 6, 1, 2]);
        assert_eq!(frame(Link::Cooked2, &[8]).len(), 14);
        assert_eq!(frame(Link::Ethernet, &[1, 2]), [1, 2]);
    }
}
