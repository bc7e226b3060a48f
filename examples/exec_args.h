// The arguments of execve as one line of text, for the exec examples.
//
// execsnoop.bpf.c has the same loop with its comments.

#ifndef EXEC_ARGS_H
#define EXEC_ARGS_H

#define ARG_LEN 128
#define MAX_ARGS 60
#define ARGS_LEN (MAX_ARGS * ARG_LEN)

// Fills `args` (of ARGS_LEN bytes) with path and arguments, separated by spaces,
// " ..." at the end if there are more than MAX_ARGS. Returns the bytes used.
static __always_inline unsigned int collect_args(char *args, struct trace_event_raw_sys_enter *ctx)
{
	const char *const *argv = (const char *const *)ctx->args[1];
	const char *arg = (const char *)ctx->args[0];
	unsigned int used = 0;
	long n;
	int i;

	for (i = 1; i <= MAX_ARGS; i++) {
		if (used > ARGS_LEN - ARG_LEN)
			break;
		n = bpf_probe_read_user_str(&args[used], ARG_LEN, arg);
		if (n < 1 || n > ARG_LEN)
			break;
		used += n;
		if (used - 1 < ARGS_LEN)
			args[used - 1] = ' ';
		arg = NULL;
		bpf_probe_read_user(&arg, sizeof(arg), &argv[i]);
		if (!arg)
			break;
	}
	if (arg && used <= ARGS_LEN - 4) {
		__builtin_memcpy(&args[used], "...", 4);
		used += 4;
	} else if (used && used - 1 < ARGS_LEN) {
		args[used - 1] = 0;
	}
	return used;
}

#endif
