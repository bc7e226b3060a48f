// Two units that share types, seen from different sides; unit_b.c is the other one.
typedef unsigned int u32;
struct only_declared_here;
struct shared { u32 a; struct shared *next; struct only_declared_here *p; int (*fn)(struct shared *, const char *); };
union both { struct shared s; u32 words[4]; };
struct { int x; int y[4]; int z[4]; } anonymous_a;
struct differs { int a; };
struct user_a { struct differs d; union both *b; };
enum colors { RED, GREEN };
struct user_a ua;
enum colors ca;
int fa(struct shared *s, const volatile u32 *p) { return s->a + *p; }
