//! A packet that programs look at and change: its bytes with room around them, and the context that says where they are.
//!
//! What is a `struct xdp_buff` or a `struct sk_buff` in the kernel is a [`PacketBuffer`] here. Programs see a context as in
//! `include/uapi/linux/bpf.h` (Linux 6.18): `struct xdp_md` or `struct __sk_buff`. Nothing rewrites their accesses to it, so it is real
//! memory: the fields that the kernel makes up are written when they change, and those that programs may set are read back. Where the packet
//! is, is not taken from the context; a program that spoils its `data` spoils only what it sees itself.
//!
//! Programs reach the bytes from the metadata to the end of the data, as the verifier lets them; the room around is for the helpers.

use std::sync::Arc;

use crate::map::Map;
use crate::offsets::{sk_buff as skb, xdp_md as xdp};
use crate::{Block, Packet, Space, SpaceError};

/// Bytes of `struct xdp_md`.
pub const XDP_MD_BYTES: usize = 24;
/// Bytes of `struct __sk_buff`.
pub const SK_BUFF_BYTES: usize = 192;
/// The longest packet that a buffer takes, in bytes.
pub const MAX_PACKET_BYTES: usize = 1 << 16;
/// Bytes of an Ethernet header.
pub(crate) const ETH_HLEN: u32 = 14;

/// Room before a packet for XDP (`XDP_PACKET_HEADROOM`).
const XDP_HEADROOM: u32 = 256;
/// What the kernel keeps at the very start (`struct xdp_frame`).
const XDP_FRAME_BYTES: u32 = 40;
/// A page less `struct skb_shared_info`: where an XDP packet of one page must end.
const XDP_HARD_END: u32 = 4096 - 320;
/// Room before a packet of the network stack. The kernel makes more whenever it is needed, up to its longest packet.
const SKB_HEADROOM: u32 = MAX_PACKET_BYTES as u32 + 64;
/// Longest packet that the loopback device takes: its MTU and a link layer's header.
pub(crate) const SKB_MAX_LEN: u32 = 65536 + ETH_HLEN;

/// What kind of program a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketKind {
    /// `struct xdp_md`.
    Xdp,
    /// `struct __sk_buff` that starts at the link layer's header, which programs may read and write in place.
    Link,
    /// As [`PacketKind::Link`], but it starts at the network layer's header (`cgroup_skb`, `lwt_*`).
    Network,
    /// As [`PacketKind::Network`], but programs only get at it through helpers and packet loads (socket filters).
    Socket,
}

/// Where a program sent the packet.
#[derive(Clone, Debug)]
pub enum Redirect {
    /// To an interface.
    Interface {
        /// Its index.
        ifindex: u32,
        /// `BPF_F_INGRESS` is 1.
        flags: u64,
    },
    /// To what stands in a map.
    Map {
        /// The map.
        map: Arc<Map>,
        /// Its key.
        key: u32,
    },
}

/// A copy that `bpf_clone_redirect` sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentClone {
    /// Index of the interface.
    pub ifindex: u32,
    /// The packet.
    pub data: Vec<u8>,
}

/// See the module's text.
#[derive(Debug)]
pub struct PacketBuffer {
    kind: PacketKind,
    block: Block,
    ctx: Block,
    meta: u32,
    data: u32,
    end: u32,
    /// Where the link layer's header is; of XDP where the data were first.
    mac: u32,
    network: u32,
    /// Where the data may end.
    hard_end: u32,
    vlan: Option<(u16, u16)>,
    redirect: Option<Redirect>,
    clones: Vec<SentClone>,
    /// A program put it into another packet.
    encapsulated: bool,
}

impl PacketBuffer {
    /// An empty one.
    ///
    /// # Errors
    ///
    /// When the programs' memory is full.
    pub fn new(space: &Arc<Space>, kind: PacketKind) -> Result<PacketBuffer, SpaceError> {
        let (headroom, ctx) = match kind {
            PacketKind::Xdp => (XDP_HEADROOM, XDP_MD_BYTES),
            _ => (SKB_HEADROOM, SK_BUFF_BYTES),
        };
        // The network stack makes packets longer than they came.
        let room = u64::from(headroom) + if kind == PacketKind::Xdp { 1 } else { 2 } * MAX_PACKET_BYTES as u64;
        let block = space.allocate(room, true)?;
        block.set_window(0, 0);
        Ok(PacketBuffer {
            kind,
            block,
            ctx: space.allocate(ctx as u64, true)?,
            meta: headroom,
            data: headroom,
            end: headroom,
            mac: headroom,
            network: headroom,
            hard_end: headroom,
            vlan: None,
            redirect: None,
            clones: Vec::new(),
            encapsulated: false,
        })
    }

    /// What kind of program it is for.
    pub fn kind(&self) -> PacketKind {
        self.kind
    }

    /// The context, for programs: what r1 is.
    pub fn ctx_addr(&self) -> u64 {
        self.ctx.addr()
    }

    /// The context itself. What lies where the packet is made up by the buffer.
    pub fn ctx(&self) -> &Block {
        &self.ctx
    }

    /// Puts a packet in, its link layer's header in front; `false` when it is longer than [`MAX_PACKET_BYTES`]. The first `meta_len` bytes are
    /// metadata of XDP in front of the packet. The context is all zeros but for what says where the packet is; of a packet for the network stack
    /// also its protocol and its type.
    #[must_use]
    pub fn set(&mut self, bytes: &[u8], meta_len: u32) -> bool {
        if bytes.len() > MAX_PACKET_BYTES || meta_len as usize > bytes.len() {
            return false;
        }
        let len = bytes.len() as u32;
        if self.kind == PacketKind::Xdp {
            // Metadata takes of the room in front.
            self.meta = XDP_HEADROOM.saturating_sub(meta_len);
            self.hard_end = (self.meta + len).max(XDP_HARD_END);
        } else {
            self.meta = SKB_HEADROOM;
            self.hard_end = self.block.len() as u32;
        }
        self.data = self.meta + meta_len;
        self.end = self.meta + len;
        self.mac = self.data;
        self.network = (self.data + ETH_HLEN).min(self.end);
        self.vlan = None;
        self.redirect = None;
        self.clones.clear();
        self.encapsulated = false;
        let written = self.block.write(self.meta.into(), bytes);
        debug_assert!(written.is_some(), "a packet fits");
        match self.kind {
            PacketKind::Xdp => {}
            PacketKind::Link => self.clear_ctx(bytes),
            PacketKind::Network | PacketKind::Socket => {
                self.data = self.network;
                self.meta = self.data;
                self.clear_ctx(bytes);
            }
        }
        self.sync();
        true
    }

    /// What `eth_type_trans` finds out (net/ethernet/eth.c), for the loopback device: its address is all zeros, for
    /// broadcasts too.
    fn clear_ctx(&mut self, bytes: &[u8]) {
        let cleared = self.ctx.zero(0, SK_BUFF_BYTES);
        debug_assert!(cleared.is_some(), "the context has these bytes");
        let Some(header) = bytes.first_chunk::<{ ETH_HLEN as usize }>() else { return };
        let to = &header[..6];
        let pkt_type: u32 = match to {
            [0, 0, 0, 0, 0, 0] => 0,
            [first, ..] if first & 1 != 0 => 2,
            _ => 3,
        };
        self.put(skb::PKT_TYPE, pkt_type);
        let ethertype = u16::from_be_bytes([header[12], header[13]]);
        let protocol = match (ethertype, bytes.get(14..16)) {
            (0x600.., _) => ethertype,
            (_, Some([0xff, 0xff])) => 1, // ETH_P_802_3
            _ => 4,                       // ETH_P_802_2
        };
        self.set_protocol(protocol);
    }

    /// Writes a field of the context.
    pub(crate) fn put(&self, at: usize, value: u32) {
        let written = self.ctx.write(at as u64, &value.to_ne_bytes());
        debug_assert!(written.is_some(), "the context has these bytes");
    }

    /// Reads a field of the context.
    pub(crate) fn get(&self, at: usize) -> u32 {
        let mut bytes = [0; 4];
        let read = self.ctx.read(at as u64, &mut bytes);
        debug_assert!(read.is_some(), "the context has these bytes");
        u32::from_ne_bytes(bytes)
    }

    /// Tells programs where the packet is.
    fn sync(&self) {
        let from = self.meta.min(self.data).min(if self.kind == PacketKind::Xdp { self.data } else { self.mac });
        self.block.set_window(from.into(), self.end.into());
        let base = self.block.addr() as u32;
        let (data, end, meta) = (base + self.data, base + self.end, base + self.meta);
        match self.kind {
            PacketKind::Xdp => {
                self.put(xdp::DATA, data);
                self.put(xdp::DATA_END, end);
                self.put(xdp::DATA_META, meta);
            }
            kind => {
                self.put(skb::LEN, self.end - self.data);
                if kind != PacketKind::Socket {
                    self.put(skb::DATA, data);
                    self.put(skb::DATA_END, end);
                    self.put(skb::DATA_META, meta);
                }
            }
        }
    }

    /// Bytes of the packet, metadata not counted.
    pub fn len(&self) -> u32 {
        self.end - self.data
    }

    /// Whether nothing is left of it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of metadata.
    pub fn meta_len(&self) -> u32 {
        self.data - self.meta
    }

    /// The packet from where programs see it.
    pub fn bytes(&self) -> Vec<u8> {
        self.block.bytes(self.data.into(), self.len() as usize)
    }

    /// The metadata and the packet.
    pub fn with_meta(&self) -> Vec<u8> {
        self.block.bytes(self.meta.into(), (self.end - self.meta) as usize)
    }

    /// The packet as it goes over the wire: with its link layer's header, and with the VLAN tag that the kernel keeps apart.
    pub fn frame(&self) -> Vec<u8> {
        let start = if self.kind == PacketKind::Xdp { self.data } else { self.mac.min(self.data) };
        let mut frame = self.block.bytes(start.into(), (self.end - start) as usize);
        if let (Some((protocol, tci)), true) = (self.vlan, frame.len() >= 12) {
            let tag = [protocol.to_be_bytes(), tci.to_be_bytes()].concat();
            frame.splice(12..12, tag);
        }
        frame
    }

    /// Where the program sent it, if it did.
    pub fn redirect(&self) -> Option<&Redirect> {
        self.redirect.as_ref()
    }

    pub(crate) fn set_redirect(&mut self, to: Redirect) {
        self.redirect = Some(to);
    }

    /// Copies that were sent.
    pub fn clones(&self) -> &[SentClone] {
        &self.clones
    }

    /// Lets go of the copies so far: there is room for as many again.
    pub fn forget_clones(&mut self) {
        self.clones.clear();
    }

    pub(crate) fn send_clone(&mut self, ifindex: u32) {
        let data = self.frame();
        self.clones.push(SentClone { ifindex, data });
    }

    /// For legacy packet loads.
    pub(crate) fn packet(&self) -> Packet {
        Packet {
            addr: self.block.addr() + u64::from(self.data),
            len: self.len(),
            network_off: self.network as i32 - self.data as i32,
            mac_off: self.mac as i32 - self.data as i32,
        }
    }

    /// Where the network header is, from the data.
    pub(crate) fn network_off(&self) -> i64 {
        i64::from(self.network) - i64::from(self.data)
    }

    pub(crate) fn mac_off(&self) -> i64 {
        i64::from(self.mac) - i64::from(self.data)
    }

    /// Some bytes; `None` when the packet has them not. `off` counts from the data.
    pub(crate) fn read(&self, off: i64, to: &mut [u8]) -> Option<()> {
        let at = self.place(off, to.len())?;
        self.block.read(at, to)
    }

    /// Changes some bytes.
    pub(crate) fn write(&mut self, off: i64, from: &[u8]) -> Option<()> {
        let at = self.place(off, from.len())?;
        self.block.write(at, from)
    }

    fn place(&self, off: i64, len: usize) -> Option<u64> {
        let at = i64::from(self.data).checked_add(off)?;
        let end = at.checked_add(len as i64)?;
        (at >= i64::from(self.meta.min(self.mac)) && end <= i64::from(self.end)).then_some(at as u64)
    }

    /// Moves the start of the data of an XDP packet, its metadata along; `None` when there is no room, or too little would be left.
    pub(crate) fn adjust_head(&mut self, by: i32) -> Option<()> {
        let meta_len = i64::from(self.meta_len());
        let data = i64::from(self.data) + i64::from(by);
        if data < i64::from(XDP_FRAME_BYTES) + meta_len || data > i64::from(self.end) - i64::from(ETH_HLEN) {
            return None;
        }
        let meta = self.block.bytes(self.meta.into(), meta_len as usize);
        self.data = data as u32;
        self.meta = (data - meta_len) as u32;
        self.block.write(self.meta.into(), &meta)?;
        self.sync();
        Some(())
    }

    /// Moves the start of the metadata of an XDP packet. `None`: no room; `Some(false)`: not a length that metadata may have.
    pub(crate) fn adjust_meta(&mut self, by: i32) -> Option<bool> {
        let meta = i64::from(self.meta) + i64::from(by);
        if meta < i64::from(XDP_FRAME_BYTES) || meta > i64::from(self.data) {
            return None;
        }
        let len = i64::from(self.data) - meta;
        if len % 4 != 0 || len > 255 {
            return Some(false);
        }
        self.meta = meta as u32;
        self.sync();
        Some(true)
    }

    /// Moves the end of an XDP packet.
    pub(crate) fn adjust_tail(&mut self, by: i32) -> Option<()> {
        let end = i64::from(self.end) + i64::from(by);
        if end > i64::from(self.hard_end) || end < i64::from(self.data + ETH_HLEN) {
            return None;
        }
        if by > 0 {
            self.block.zero(self.end.into(), by as usize)?;
        }
        self.end = end as u32;
        self.sync();
        Some(())
    }

    /// Gives a packet of the network stack another length; what is new is zero.
    pub(crate) fn set_len(&mut self, len: u32) -> Option<()> {
        let end = self.data.checked_add(len).filter(|end| *end <= self.hard_end)?;
        if end > self.end {
            self.block.zero(self.end.into(), (end - self.end) as usize)?;
        }
        self.end = end;
        self.sync();
        Some(())
    }

    /// Makes room in front of a packet of the network stack, all zeros, which becomes its link layer's header.
    pub(crate) fn push(&mut self, len: u32) -> Option<()> {
        let data = self.data.checked_sub(len)?;
        self.block.zero(data.into(), len as usize)?;
        self.data = data;
        self.meta = data;
        self.mac = data;
        self.sync();
        Some(())
    }

    /// Makes room, all zeros, behind the first `off` bytes of a packet of the network stack, which move to the front (`bpf_skb_net_hdr_push`).
    pub(crate) fn make_room(&mut self, off: u32, len: u32) -> Option<()> {
        let data = self.data.checked_sub(len).filter(|_| off <= self.len())?;
        let start = self.block.bytes(self.data.into(), off as usize);
        self.block.write(data.into(), &start)?;
        self.block.zero((data + off).into(), len as usize)?;
        self.mac = self.mac.checked_sub(len)?;
        self.network = self.network.checked_sub(len)?;
        self.data = data;
        self.meta = data;
        self.sync();
        Some(())
    }

    /// Takes bytes away that [`PacketBuffer::make_room`] would put in (`bpf_skb_net_hdr_pop`).
    pub(crate) fn take_room(&mut self, off: u32, len: u32) -> Option<()> {
        off.checked_add(len).filter(|end| *end <= self.len())?;
        let start = self.block.bytes(self.data.into(), off as usize);
        self.data += len;
        self.meta = self.data;
        self.mac += len;
        self.network += len;
        self.block.write(self.data.into(), &start)?;
        self.sync();
        Some(())
    }

    /// Whether it was put into another packet.
    pub(crate) fn is_encapsulated(&self) -> bool {
        self.encapsulated
    }

    pub(crate) fn set_encapsulated(&mut self) {
        self.encapsulated = true;
    }

    /// The protocol, in the machine's byte order.
    pub(crate) fn protocol(&self) -> u16 {
        u16::from_be(self.get(skb::PROTOCOL) as u16)
    }

    pub(crate) fn set_protocol(&mut self, protocol: u16) {
        self.put(skb::PROTOCOL, protocol.to_be().into());
    }

    /// The VLAN tag that is kept apart from the packet: protocol and control information.
    pub(crate) fn vlan(&self) -> Option<(u16, u16)> {
        self.vlan
    }

    pub(crate) fn set_vlan(&mut self, vlan: Option<(u16, u16)>) {
        self.vlan = vlan;
        let (protocol, tci) = vlan.unwrap_or_default();
        self.put(skb::VLAN_PRESENT, vlan.is_some().into());
        self.put(skb::VLAN_TCI, tci.into());
        self.put(skb::VLAN_PROTO, protocol.to_be().into());
    }

    /// Puts the VLAN tag that is kept apart into the packet, behind the addresses.
    pub(crate) fn insert_vlan(&mut self, (protocol, tci): (u16, u16)) -> Option<()> {
        let mut addresses = [0; 12];
        self.read(0, &mut addresses)?;
        let network = self.network;
        self.push(4)?;
        self.network = network;
        self.write(0, &addresses)?;
        self.write(12, &[protocol.to_be_bytes(), tci.to_be_bytes()].concat())?;
        self.set_protocol(protocol);
        Some(())
    }

    /// Takes a VLAN tag out of the packet; its control information.
    pub(crate) fn remove_vlan(&mut self) -> Option<u16> {
        let mut header = [0; 18];
        self.read(0, &mut header)?;
        let tci = u16::from_be_bytes([header[14], header[15]]);
        let inner = u16::from_be_bytes([header[16], header[17]]);
        self.data += 4;
        self.meta = self.data;
        self.mac = self.data;
        self.network = (self.mac + ETH_HLEN).min(self.end);
        self.write(0, &header[..12])?;
        self.set_protocol(if inner >= 0x600 { inner } else { 4 });
        self.sync();
        Some(tci)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(kind: PacketKind, bytes: &[u8]) -> PacketBuffer {
        let mut buffer = PacketBuffer::new(&Space::new().unwrap(), kind).unwrap();
        assert!(buffer.set(bytes, 0));
        buffer
    }

    #[test]
    fn the_context_says_where_the_packet_is() {
        let buffer = buffer(PacketKind::Xdp, &[7; 60]);
        let (data, end) = (buffer.get(xdp::DATA), buffer.get(xdp::DATA_END));
        assert_eq!(end - data, 60);
        let space = buffer.block.space().clone();
        let mut byte = [0];
        assert!(space.read(data.into(), &mut byte).is_ok());
        assert_eq!(byte, [7]);
        assert!(space.read(u64::from(data) - 1, &mut byte).is_err());
        assert!(space.read(end.into(), &mut byte).is_err());
    }

    #[test]
    fn an_xdp_packet_grows_and_shrinks_within_its_page() {
        let mut buffer = buffer(PacketKind::Xdp, &[1; 60]);
        assert_eq!(buffer.adjust_head(-217), None);
        assert_eq!(buffer.adjust_head(-216), Some(()));
        assert_eq!((buffer.len(), buffer.adjust_head(216 + 46)), (276, Some(())));
        assert_eq!(buffer.adjust_head(1), None);
        assert_eq!(buffer.adjust_tail(-1), None);
        assert_eq!(buffer.adjust_meta(-6), Some(false));
        assert_eq!(buffer.adjust_meta(-8), Some(true));
        assert_eq!((buffer.meta_len(), buffer.with_meta().len()), (8, 22));
        assert_eq!(buffer.adjust_tail(XDP_HARD_END as i32), None);
    }

    #[test]
    fn a_vlan_tag_goes_in_and_out() {
        let packet: Vec<u8> = (0..60)
            .map(|at| {
                if at == 12 {
                    8
                } else if at == 13 {
                    0
                } else {
                    at
                }
            })
            .collect();
        let mut buffer = buffer(PacketKind::Link, &packet);
        assert_eq!(buffer.protocol(), 0x800);
        buffer.insert_vlan((0x8100, 5)).unwrap();
        assert_eq!((buffer.len(), buffer.protocol()), (64, 0x8100));
        assert_eq!(buffer.bytes()[..18], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 0x81, 0, 0, 5, 8, 0]);
        assert_eq!(buffer.remove_vlan(), Some(5));
        assert_eq!((buffer.bytes(), buffer.protocol()), (packet, 0x800));
    }
}
