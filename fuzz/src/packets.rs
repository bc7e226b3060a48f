//! Files of packets.

use std::io::Cursor;

use skep_userspace::pcap::{MAX_PACKET, Packet, Reader, Writer};

/// Files of packets.
pub(crate) fn files(file: &[u8]) -> Vec<Vec<u8>> {
    let magics: [[u8; 4]; 5] = [
        0xa1b2_c3d4u32.to_le_bytes(),
        0xa1b2_c3d4u32.to_be_bytes(),
        0xa1b2_3c4du32.to_le_bytes(),
        0xa1b2_3c4du32.to_be_bytes(),
        [10, 13, 13, 10],
    ];
    if magics.iter().any(|magic| file.starts_with(magic)) { vec![file.to_vec()] } else { Vec::new() }
}

fn packets(data: &[u8]) -> Vec<Packet> {
    let Ok(mut reader) = Reader::new(Box::new(Cursor::new(data.to_vec()))) else { return Vec::new() };
    let mut all = Vec::new();
    let mut packet = Packet::default();
    while let Ok(true) = reader.read(&mut packet) {
        all.push(packet.clone());
    }
    assert_eq!(reader.packets(), all.len() as u64);
    all
}

/// Any bytes as a file; what is read is the same when it was written and read again.
pub(crate) fn read(data: &[u8]) {
    /// What a packet without link layer gets.
    const HEADER: usize = 14;
    let all = packets(data);
    let bytes: usize = all.iter().map(|packet| packet.data.len()).sum();
    assert!(bytes <= data.len() + HEADER * all.len(), "more bytes than the file has");
    let mut file = Vec::new();
    let mut writer = Writer::new(&mut file).expect("a vector takes everything");
    for packet in &all {
        writer.write(packet.time_ns, &packet.data, packet.len).expect("a vector takes everything");
    }
    writer.finish().expect("a vector takes everything");
    drop(writer);
    let again = packets(&file);
    for (packet, again) in all.iter().zip(&again) {
        assert_eq!(packet.data, again.data);
        assert_eq!(packet.len.max(packet.data.len() as u32), again.len);
        // 32 bits of seconds, as every file of this kind.
        if packet.time_ns / 1_000_000_000 < u64::from(u32::MAX) {
            assert_eq!(packet.time_ns, again.time_ns);
        }
    }
    let writable = all.iter().take_while(|packet| packet.data.len() <= MAX_PACKET as usize).count();
    assert!(again.len() >= writable, "{} of {} packets", again.len(), all.len());
}
