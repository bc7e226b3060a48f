/*
 * What the programs of `cargo xtask bench vm` are made with. Each file has `body(mem)`, which is built three times:
 *
 *   for machines in user space   r1 is the input
 *   for the kernel (-DKERNEL)    an XDP program, whose packet is the input
 *   natively                     with `prepare(mem)`, which writes the input, beside native.c
 *
 * Maps are the machine's; natively they are those of native.c.
 */
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int s32;

/* Bytes of the input. A packet of a test run has to fit a page. */
#define INPUT_BYTES 3072

#define always_inline inline __attribute__((always_inline))
#define noinline __attribute__((noinline))

#ifdef __bpf__

#define SEC(name) __attribute__((section(name), used))
#define MAP(name, kind, key, value, entries) \
	struct { \
		int (*type)[kind]; \
		key *key_type[0]; \
		int (*key_size)[sizeof(key)]; \
		int (*value_size)[sizeof(value)]; \
		int (*max_entries)[entries]; \
	} name SEC(".maps")
#define MAP_ARRAY 2
#define MAP_HASH 1

static void *(*const map_lookup)(void *map, const void *key) = (void *)1;
static long (*const map_update)(void *map, const void *key, const void *value, u64 flags) = (void *)2;

#ifdef KERNEL
struct xdp_md {
	u32 data;
	u32 data_end;
};
#define PROGRAM \
	SEC("xdp") int program(struct xdp_md *ctx) \
	{ \
		u8 *mem = (u8 *)(long)ctx->data; \
		if (mem + INPUT_BYTES > (u8 *)(long)ctx->data_end) \
			return -1; \
		return body(mem); \
	} \
	char LICENSE[] SEC("license") = "GPL";
#else
#define PROGRAM \
	SEC("xdp") u64 program(u8 *mem) \
	{ \
		return body(mem); \
	} \
	char LICENSE[] SEC("license") = "GPL";
#endif

#else

struct map {
	u32 kind, key_size, value_size, max_entries;
	/* For a hash: heads of lists, and the next of each element. */
	u32 *heads, *next;
	u32 used;
	u8 *keys, *values;
};
#define MAP_ARRAY 2
#define MAP_HASH 1
#define MAP(name, kind, key, value, entries) struct map name = { kind, sizeof(key), sizeof(value), entries }

void *map_lookup(void *map, const void *key);
long map_update(void *map, const void *key, const void *value, u64 flags);

#define PROGRAM \
	noinline u64 program(u8 *mem) \
	{ \
		return body(mem); \
	}

#endif
