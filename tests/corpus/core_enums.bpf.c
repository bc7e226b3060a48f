// Enumerators: existence and value, under flavours and renumbering.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

char LICENSE[] SEC("license") = "GPL";

enum bpf_map_type___renumbered {
	BPF_MAP_TYPE_HASH___renumbered = 77,
	BPF_MAP_TYPE_NO_SUCH___renumbered = 78,
};

enum no_such_enum___x {
	NO_SUCH_ENUMERATOR___x = 1,
};

SEC("raw_tp/sys_enter")
int enums(void *ctx)
{
	int sum = bpf_core_enum_value(enum bpf_map_type___renumbered, BPF_MAP_TYPE_HASH___renumbered);

	if (bpf_core_enum_value_exists(enum bpf_map_type___renumbered, BPF_MAP_TYPE_NO_SUCH___renumbered))
		sum += 100;
	if (bpf_core_enum_value_exists(enum no_such_enum___x, NO_SUCH_ENUMERATOR___x))
		sum += 200;
	return sum + bpf_core_enum_value(enum bpf_prog_type, BPF_PROG_TYPE_XDP);
}
