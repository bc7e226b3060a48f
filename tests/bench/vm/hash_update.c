/* Counts 64 packets by their flow. */
#include "program.h"

struct flow {
	/* Source and destination. */
	u64 addresses;
	/* Source, destination, protocol. */
	u64 ports;
};

struct counts {
	u64 packets, bytes;
};

MAP(flows, MAP_HASH, struct flow, struct counts, 1024);

static always_inline u64 body(u8 *mem)
{
	u64 sum = 0;

	for (u32 i = 0; i < 64; i++) {
		struct flow *from = (struct flow *)(mem + 16 * i);
		struct flow flow = { .addresses = from->addresses, .ports = from->ports };
		struct counts *counts = map_lookup(&flows, &flow);

		if (counts) {
			counts->packets += 1;
			counts->bytes += flow.addresses & 0xff;
			sum += flow.ports;
		} else {
			struct counts first = { 1, flow.addresses & 0xff };

			map_update(&flows, &flow, &first, 0);
			sum += flow.ports;
		}
	}
	return sum;
}

PROGRAM

#ifndef __bpf__
void prepare(u8 *mem)
{
	for (u32 i = 0; i < 64; i++) {
		struct flow *flow = (struct flow *)(mem + 16 * i);
		u32 of = i % 40;

		flow->addresses = (0xc0a80001ULL + of % 4) << 32 | (0x0a000000 + of * 3);
		flow->ports = (of % 3 ? 0x060001bbULL : 0x11000035) << 16 | (40000 + of * 17);
	}
}
#endif
