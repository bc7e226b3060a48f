typedef unsigned int u32;
struct only_declared_here { long here; struct only_declared_here *self; };
struct shared { u32 a; struct shared *next; struct only_declared_here *p; int (*fn)(struct shared *, const char *); };
union both { struct shared s; u32 words[4]; };
struct { int x; int y[4]; int z[4]; } anonymous_b;
struct differs { long a; };
struct user_b { struct differs d; union both *b; };
enum colors { RED, GREEN };
struct only_declared_here odh;
struct user_b ub;
enum colors cb;
int fb(struct shared *s, const volatile u32 *p) { return s->a + *p; }
