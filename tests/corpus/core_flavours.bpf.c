// Two shapes of one kernel type; the one that does not fit is never reached.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

char LICENSE[] SEC("license") = "GPL";

struct io_cq___a {
	struct request_queue *q;
} __attribute__((preserve_access_index));

struct request_queue___x {
	struct gendisk *disk;
} __attribute__((preserve_access_index));

struct request___x {
	struct request_queue___x *q;
	struct gendisk *rq_disk;
} __attribute__((preserve_access_index));

SEC("raw_tp/sys_enter")
int disk(struct bpf_raw_tracepoint_args *ctx)
{
	struct request___x *rq = (void *)ctx->args[0];
	struct gendisk *disk = 0;

	if (bpf_core_field_exists(rq->q->disk))
		disk = BPF_CORE_READ(rq, q, disk);
	else if (bpf_core_field_exists(rq->rq_disk))
		disk = BPF_CORE_READ(rq, rq_disk);
	return disk != 0;
}
