/* The headers of 31 packets: Ethernet, VLAN, IPv4 and IPv6, TCP and UDP, and what their ports are. */
#include "program.h"

#define PACKETS 31
#define PACKET_BYTES 96

static always_inline u32 be16(const u8 *at)
{
	return at[0] << 8 | at[1];
}

static always_inline u64 parse(const u8 *p)
{
	u32 type = be16(p + 12), proto, off = 14;
	u32 address;

	if (type == 0x8100 || type == 0x88a8) {
		type = be16(p + 16);
		p += 4;
	}
	if (type == 0x0800) {
		if ((p[14] & 0xf) != 5)
			return 1;
		proto = p[14 + 9];
		address = *(u32 *)(p + 14 + 12) ^ *(u32 *)(p + 14 + 16);
		p += 14 + 20;
	} else if (type == 0x86dd) {
		proto = p[14 + 6];
		address = *(u32 *)(p + 14 + 20) ^ *(u32 *)(p + 14 + 36);
		p += 14 + 40;
	} else {
		return 2;
	}
	if (proto == 6)
		return address + ((u64)be16(p) << 16 | be16(p + 2)) * 3 + (p[13] & 0x12);
	if (proto == 17)
		return address + ((u64)be16(p) << 16 | be16(p + 2)) * 5 + be16(p + 4);
	return 3 + proto;
}

static always_inline u64 body(u8 *mem)
{
	u64 sum = 0;

	for (u32 i = 0; i < PACKETS; i++)
		sum = (sum << 1 | sum >> 63) + parse(mem + i * PACKET_BYTES);
	return sum;
}

PROGRAM

#ifndef __bpf__
void prepare(u8 *mem)
{
	for (u32 i = 0; i < PACKETS; i++) {
		u8 *p = mem + i * PACKET_BYTES;
		u32 off = 12;

		for (u32 j = 0; j < PACKET_BYTES; j++)
			p[j] = i * 31 + j * 7;
		if (i % 5 == 1) {
			p[off] = 0x81;
			p[off + 1] = 0;
			off += 4;
		}
		if (i % 3 == 2) {
			p[off] = 0x86;
			p[off + 1] = 0xdd;
			p[off + 2 + 6] = i % 2 ? 6 : 17;
		} else {
			p[off] = 8;
			p[off + 1] = 0;
			p[off + 2] = i == 9 ? 0x46 : 0x45;
			p[off + 2 + 9] = i % 7 == 3 ? 1 : i % 2 ? 6 : 17;
		}
	}
}
#endif
