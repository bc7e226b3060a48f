/* Tells skep which C type travels through which ring or perf buffer.
 *
 * The kernel sees only bytes in such a buffer, and clang writes the type of a
 * local variable into no BTF. But the calls below are given typed pointers, so
 * each of them leaves one variable behind, in a section that no loader loads,
 * whose type is "function that takes the map's pointer and the event's pointer".
 * That puts the event type into the object's BTF next to the map that it
 * belongs to. Not one instruction is added, and other loaders ignore the section.
 *
 * A macro is not expanded inside itself, so each of these ends in the helper of
 * the same name. A call with an unexpected number of arguments (a compound
 * literal with commas in it) goes to the helper untouched. Define
 * SKEP_NO_EVENT_TYPES to have none of it.
 */
#ifndef __SKEP_EVENTS_H
#define __SKEP_EVENTS_H

#ifndef SKEP_NO_EVENT_TYPES

#define __skep_event(types...)                                             \
	static void (*__skep_event)(types)                                 \
		__attribute__((section(".skep.events"), used))

#define ___skep_is3(...) ___bpf_nth(_, ##__VA_ARGS__, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0)
#define ___skep_is2(...) ___bpf_nth(_, ##__VA_ARGS__, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0)
#define ___skep_is4(...) ___bpf_nth(_, ##__VA_ARGS__, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0)
#define ___skep_is5(...) ___bpf_nth(_, ##__VA_ARGS__, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0)

#define ___skep_reserve0(args...) bpf_ringbuf_reserve(args)
#define ___skep_reserve1(rb, size, flags) ({                               \
	__skep_event(typeof(rb));                                          \
	bpf_ringbuf_reserve(rb, size, flags);                              \
})
#define bpf_ringbuf_reserve(args...)                                       \
	___bpf_apply(___skep_reserve, ___skep_is3(args))(args)

#define ___skep_submit0(args...) bpf_ringbuf_submit(args)
#define ___skep_submit1(data, flags) ({                                    \
	__skep_event(void *, typeof(data));                                \
	bpf_ringbuf_submit(data, flags);                                   \
})
#define bpf_ringbuf_submit(args...)                                        \
	___bpf_apply(___skep_submit, ___skep_is2(args))(args)

#define ___skep_rb_output0(args...) bpf_ringbuf_output(args)
#define ___skep_rb_output1(rb, data, size, flags) ({                       \
	__skep_event(typeof(rb), typeof(data));                            \
	bpf_ringbuf_output(rb, data, size, flags);                         \
})
#define bpf_ringbuf_output(args...)                                        \
	___bpf_apply(___skep_rb_output, ___skep_is4(args))(args)

#define ___skep_perf_output0(args...) bpf_perf_event_output(args)
#define ___skep_perf_output1(ctx, map, flags, data, size) ({               \
	__skep_event(typeof(map), typeof(data));                           \
	bpf_perf_event_output(ctx, map, flags, data, size);                \
})
#define bpf_perf_event_output(args...)                                     \
	___bpf_apply(___skep_perf_output, ___skep_is5(args))(args)

#define ___skep_skb_output0(args...) bpf_skb_output(args)
#define ___skep_skb_output1(ctx, map, flags, data, size) ({                \
	__skep_event(typeof(map), typeof(data));                           \
	bpf_skb_output(ctx, map, flags, data, size);                       \
})
#define bpf_skb_output(args...)                                            \
	___bpf_apply(___skep_skb_output, ___skep_is5(args))(args)

#define ___skep_xdp_output0(args...) bpf_xdp_output(args)
#define ___skep_xdp_output1(ctx, map, flags, data, size) ({                \
	__skep_event(typeof(map), typeof(data));                           \
	bpf_xdp_output(ctx, map, flags, data, size);                       \
})
#define bpf_xdp_output(args...)                                            \
	___bpf_apply(___skep_xdp_output, ___skep_is5(args))(args)

#endif
#endif
