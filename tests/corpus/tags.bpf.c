// Declaration tags, type tags and floating point in the types.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

#define tag(name) __attribute__((btf_decl_tag(name)))
#define user_tag __attribute__((btf_type_tag("user")))

struct tagged {
	int plain tag("skep:plain");
	float ratio;
	double precise;
	char user_tag *text;
} tag("skep:struct");

struct tagged tagged tag("skep:variable");

__noinline tag("skep:function") int function(int a tag("skep:argument"))
{
	return a + tagged.plain;
}

SEC("raw_tp/sys_enter")
int use(void *ctx)
{
	return function(bpf_get_prandom_u32());
}
