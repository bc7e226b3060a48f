// Every line that is typed into any bash on this machine.
//
//     sudo skep run examples/bashreadline.bpf.c
//
//     TIME      PID   PPID  PATH      COMMAND
//     11:02:07  1711  1700  /srv/www  ls -l
//
// bash reads its lines with a function `readline`, which returns the line. A
// uretprobe runs when that function returns, in whichever process: the probe is on
// the file /bin/bash. Where bash takes readline from a library, name that with
// `--bin /lib/x86_64-linux-gnu/libreadline.so.8`.
//
// PATH is the folder in which the line was typed.

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>

#define MAX_DEPTH 16 // folders of the path that are shown
#define NAME_LEN 64  // letters of each

struct event {
	int pid;
	int ppid;
	char path[256];
	char command[256];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} events SEC(".maps");

// The kernel keeps a path as a chain of names from the last one up to the root,
// and a second chain of mounts: at the root of a file system the path goes on at
// the place where that one is mounted.
static __always_inline void working_folder(struct task_struct *task, char *text, unsigned int size)
{
	struct dentry *names[MAX_DEPTH] = {};
	struct dentry *dentry = BPF_CORE_READ(task, fs, pwd.dentry);
	struct vfsmount *vfs = BPF_CORE_READ(task, fs, pwd.mnt);
	struct mount *mount = (void *)vfs - bpf_core_field_offset(struct mount, mnt);
	unsigned int used = 0;
	int i;
	long n;

	for (i = 0; i < MAX_DEPTH; i++) {
		struct dentry *parent;

		if (dentry == BPF_CORE_READ(mount, mnt.mnt_root)) {
			struct mount *outer = BPF_CORE_READ(mount, mnt_parent);

			if (outer == mount)
				break; // the root of everything
			dentry = BPF_CORE_READ(mount, mnt_mountpoint);
			mount = outer;
		}
		parent = BPF_CORE_READ(dentry, d_parent);
		if (parent == dentry)
			break;
		names[i] = dentry;
		dentry = parent;
	}

	text[0] = '/';
	text[1] = 0;
	for (i = MAX_DEPTH - 1; i >= 0; i--) {
		if (!names[i])
			continue;
		if (used >= size - NAME_LEN - 1)
			break;
		text[used] = '/';
		n = bpf_probe_read_kernel_str(&text[used + 1], NAME_LEN, BPF_CORE_READ(names[i], d_name.name));
		if (n < 1 || n > NAME_LEN)
			break;
		used += n; // the zero byte's place is that of the next slash
	}
}

SEC("uretprobe//bin/bash:readline")
int BPF_URETPROBE(readline_returns, const char *line)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct event *e;

	if (!line)
		return 0; // end of input
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e)
		return 0;
	e->pid = bpf_get_current_pid_tgid() >> 32;
	e->ppid = BPF_CORE_READ(task, real_parent, tgid);
	working_folder(task, e->path, sizeof(e->path));
	bpf_probe_read_user_str(e->command, sizeof(e->command), line);
	bpf_ringbuf_submit(e, 0);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
