//! Functions with arguments.

use skep_insn::{AluOp, Cond, Width, helpers};
use skep_spec::{Extern, ExternId, ExternKind};

use super::Unit;
use super::memory::space_of;
use super::place::{Body, Place};
use crate::ir::{Block, Value};
use crate::typed::{Call, Context, Expr, ExprKind};
use crate::types::{Space, Type};

/// `AF_INET`, `AF_INET6`
const AF_INET: i32 = 2;
const AF_INET6: i32 = 10;

impl<'a> Body<'_, 'a> {
    /// A function whose result is a scalar.
    pub(crate) fn call(&mut self, call: &'a Call, args: &'a [Expr], e: &'a Expr) -> Value {
        match (call, args) {
            (Call::Strlen, [text]) => self.strlen(text),
            (Call::Strstr, [a, b]) => self.strstr(a, b),
            (Call::Strcontains, [a, b]) => {
                let found = self.strstr(a, b);
                self.f.compare(Cond::SGe, Width::W64, found, 0)
            }
            (Call::Memcmp, [a, b, n]) => {
                let room = |e: &Expr| if e.ty.is_scalar() { u32::MAX } else { e.ty.size() };
                let most = room(a).min(room(b));
                let n = match n.kind {
                    ExprKind::Const(n) => u32::try_from(n).unwrap_or(u32::MAX).min(most),
                    _ => most.min(self.unit.script.config.max_strlen),
                };
                let value = self.memcmp(a, b, n);
                self.extend(value, &e.ty)
            }
            (Call::Bswap, [n]) => {
                let value = self.scalar(n);
                let bits = e.ty.size() as u8 * 8;
                let value = if bits > 8 { self.f.byte_swap(bits, value) } else { value };
                self.extend(value, &e.ty)
            }
            (Call::Signal { thread }, [number]) => {
                let helper = if *thread { helpers::SEND_SIGNAL_THREAD } else { helpers::SEND_SIGNAL };
                let number = self.scalar(number);
                self.checked(helper, &[number])
            }
            (Call::Override, [value]) => {
                let (value, context) = (self.scalar(value), self.context());
                self.checked(helpers::OVERRIDE_RETURN, &[context, value])
            }
            (Call::WriteUser, [pointer, value]) => {
                let mark = self.mark();
                let size = value.ty.size();
                let from = self.temporary(size);
                self.into(value, from, true);
                let to = self.scalar(pointer);
                let (from, size) = (self.addr(from), self.number(i64::from(size)));
                let result = self.checked(helpers::PROBE_WRITE_USER, &[to, from, size]);
                self.release(mark);
                result
            }
            (Call::PercpuKaddr { symbol }, args) => {
                let cpu = match args.first() {
                    Some(cpu) => self.scalar(cpu),
                    None => self.f.call(helpers::GET_SMP_PROCESSOR_ID, &[]),
                };
                let offsets = self.unit.kernel_symbol("__per_cpu_offset");
                let symbol = self.unit.kernel_symbol(symbol);
                let offsets = self.f.external(offsets);
                let distance = self.f.alu(AluOp::Lsh, Width::W64, cpu, 3);
                let at = self.f.add(offsets, distance);
                let offset = self.read_scalar(at, Space::Kernel, &Type::U64, None);
                let symbol = self.f.external(symbol);
                self.f.add(symbol, offset)
            }
            (Call::SkbOutput { path }, [skb, len]) => self.skb_output(path, skb, len),
            (Call::SocketCookie, [socket]) => {
                let socket = self.known_pointer(socket, None);
                self.f.call(helpers::GET_SOCKET_COOKIE, &[socket])
            }
            (Call::StackLen, [stack]) => {
                let place = self.place_of(stack);
                self.stack_len(place)
            }
            _ => {
                // A value in memory whose bytes are wanted as a number.
                let to = self.temporary(e.ty.size().max(8));
                self.call_into(call, args, e, to, true);
                self.load_scalar(to, &e.ty)
            }
        }
    }

    fn checked(&mut self, helper: u32, args: &[Value]) -> Value {
        let result = self.f.call(helper, args);
        self.check(result, helper, None, false);
        result
    }

    /// A function whose result lies in memory.
    pub(crate) fn call_into(&mut self, call: &'a Call, args: &'a [Expr], e: &'a Expr, to: Place, clean: bool) {
        let size = e.ty.size();
        match (call, args) {
            (Call::Str, [_, ..]) => {
                self.str_into(args, size, to, clean);
            }
            (Call::Buf, [source, rest @ ..]) => self.buf_into(source, rest.first(), size - 4, to, clean),
            (Call::Concat, [a, b]) => self.concat_into(a, b, size, to, clean),
            (Call::Strftime { format, clock }, [time]) => {
                let time = self.operand(time);
                self.store(to, 0, 8, time);
                self.store(to, 8, 4, *format as i32);
                self.store(to, 12, 4, *clock as u32 as i32);
            }
            (Call::CgroupPath { filter }, [id]) => {
                let id = self.operand(id);
                self.store(to, 0, 8, id);
                self.store(to, 8, 8, *filter as i32);
            }
            (Call::Ntop, [address]) => {
                let family = if memory_size(address) == 16 { AF_INET6 } else { AF_INET };
                self.zero(to, 0, size);
                self.store(to, 0, 4, family);
                self.address_bytes(address, to.at(4), 16);
            }
            (Call::Ntop, [family, address]) => {
                self.zero(to, 0, size);
                let wanted = self.scalar(family);
                self.store(to, 0, 4, wanted);
                if memory_size(address) == 4 {
                    return self.address_bytes(address, to.at(4), 4);
                }
                let (six, four, done) = (self.f.block(0), self.f.block(0), self.f.block(0));
                self.f.branch(Cond::Eq, Width::W32, wanted, AF_INET6, (six, &[]), (four, &[]));
                for (block, len) in [(six, 16), (four, 4)] {
                    self.f.switch_to(block);
                    self.address_bytes(address, to.at(4), len);
                    self.f.jump(done, &[]);
                }
                self.f.switch_to(done);
            }
            (Call::Macaddr, [address]) => self.address_bytes(address, to, 6),
            (Call::Usym, [address]) => {
                let address = self.scalar(address);
                self.usym_into(address, to);
            }
            (Call::Path, [path]) => {
                if clean {
                    self.zero(to, 0, size);
                }
                let (failed, done, absent) = (self.f.block(0), self.f.block(0), self.f.block(0));
                let path = self.known_pointer(path, Some(absent));
                let (at, len) = (self.addr(to), self.number(i64::from(size)));
                let result = self.f.call(helpers::D_PATH, &[path, at, len]);
                self.f.branch(Cond::SLt, Width::W64, result, 0, (failed, &[]), (done, &[]));
                self.f.switch_to(failed);
                self.report(result, helpers::D_PATH, None, true);
                self.f.jump(absent, &[]);
                self.f.switch_to(absent);
                // Of a path that does not fit, pieces are left.
                if clean {
                    self.zero(to, 0, size);
                } else {
                    self.store(to, 0, 1, 0);
                }
                self.f.jump(done, &[]);
                self.f.switch_to(done);
            }
            (Call::CommOf, [pid]) => self.comm_of(pid, size, to),
            _ if size <= 8 => {
                let value = self.call(call, args, e);
                self.store(to, 0, size, value);
            }
            _ => self.zero(to, 0, size),
        }
    }

    /// `buf(p, n)`
    fn buf_into(&mut self, source: &'a Expr, len: Option<&'a Expr>, size: u32, to: Place, clean: bool) {
        if !source.ty.is_scalar() {
            // An array, or a buffer.
            let skip = if matches!(source.ty, Type::Buffer { .. }) { 4 } else { 0 };
            let own = (source.ty.size() - skip).min(size);
            let from = self.place_of(source).at(skip);
            if clean {
                self.zero(to, 4 + own, size - own);
            }
            self.copy(from, to.at(4), own);
            let len = match len {
                Some(len) => self.bounded(len, 0, own),
                None => self.number(i64::from(own)),
            };
            return self.store(to, 0, 4, len);
        }
        let len = match len {
            Some(len) => self.bounded(len, 0, size),
            None => self.number(i64::from(size)),
        };
        let space = space_of(source);
        let address = self.scalar(source);
        self.read_buffer(address, space, len, size, to, clean);
    }

    /// The first `most` bytes of a value in memory, of an integer, or of what a pointer points at.
    fn address_bytes(&mut self, e: &'a Expr, to: Place, most: u32) {
        match &e.ty {
            Type::Pointer { .. } => {
                let len = memory_size(e).min(most);
                let len = if len == 0 { most } else { len };
                let address = self.scalar(e);
                self.read(address, space_of(e), to, len);
            }
            ty if ty.is_scalar() => {
                let value = self.scalar(e);
                self.store(to, 0, ty.size().min(most), value);
            }
            ty => {
                let len = ty.size().min(most);
                let from = self.place_of(e);
                self.copy(from, to, len);
            }
        }
    }

    /// A pointer that the verifier shall know: not made opaque, and followed by plain loads. What the context holds may be
    /// null (`file` of `iter:task_file`, behind a task's last one): then it goes on in `absent`.
    fn known_pointer(&mut self, e: &'a Expr, absent: Option<Block>) -> Value {
        if self.context_kind() != Context::TypedArgs {
            return self.scalar(e);
        }
        match &e.kind {
            ExprKind::Argument(n) => {
                let context = self.context();
                self.f.load(8, context, *n as i16 * 8)
            }
            ExprKind::ContextField { off, .. } => {
                let context = self.context();
                let pointer = self.f.load(8, context, *off as i16);
                if let Some(absent) = absent {
                    let there = self.f.block(0);
                    self.f.branch(Cond::Eq, Width::W64, pointer, 0, (absent, &[]), (there, &[]));
                    self.f.switch_to(there);
                }
                pointer
            }
            ExprKind::Cast(inner) if inner.ty.is_scalar() => self.known_pointer(inner, absent),
            ExprKind::PointerAdd { pointer, index, scale } if matches!(index.kind, ExprKind::Const(_)) => {
                let ExprKind::Const(index) = index.kind else { return self.scalar(e) };
                let pointer = self.known_pointer(pointer, absent);
                let by = self.f.operand(index.wrapping_mul(i64::from(*scale)));
                self.f.add(pointer, by)
            }
            ExprKind::Deref { pointer, off, bits: None } => {
                let pointer = self.known_pointer(pointer, absent);
                match i16::try_from(*off) {
                    Ok(off) => self.f.load_pure(8, pointer, off),
                    Err(_) => {
                        let at = self.f.add(pointer, *off as i32);
                        self.f.load_pure(8, at, 0)
                    }
                }
            }
            _ => self.scalar(e),
        }
    }

    /// `comm(pid)`: the name of any task, by its number in the first namespace; empty when there is none.
    fn comm_of(&mut self, pid: &'a Expr, size: u32, to: Place) {
        self.zero(to, 0, size);
        let pid = self.scalar(pid);
        let own = self.f.call(helpers::GET_CURRENT_PID_TGID, &[]);
        let own = self.f.zero_extend(32, own);
        let pid = self.f.zero_extend(32, pid);
        let (current, other, there, done) = (self.f.block(0), self.f.block(0), self.f.block(0), self.f.block(0));
        self.f.branch(Cond::Eq, Width::W64, own, pid, (current, &[]), (other, &[]));
        self.f.switch_to(current);
        let (at, len) = (self.addr(to), self.number(i64::from(size)));
        self.f.call(helpers::GET_CURRENT_COMM, &[at, len]);
        self.f.jump(done, &[]);
        self.f.switch_to(other);
        let find = self.unit.shared(super::shared::Shared::TaskOf);
        let task = self.f.call_func(find, &[pid]);
        self.f.branch_if(task, there, done);
        self.f.switch_to(there);
        let off = self.unit.member_offset("task_struct", "comm").unwrap_or(0);
        let from = self.f.add(task, off as i32);
        let (at, len) = (self.addr(to), self.number(i64::from(size.min(16))));
        self.f.call(helpers::PROBE_READ_KERNEL, &[at, len, from]);
        self.f.jump(done, &[]);
        self.f.switch_to(done);
    }

    /// Cookie of the place where the program runs: the caller's own one also for USDT, whose descriptions have it.
    pub(crate) fn cookie(&mut self, context: Value) -> Value {
        if !self.is_usdt() {
            return self.f.call(helpers::GET_ATTACH_COOKIE, &[context]);
        }
        let function = self.unit.shared(super::shared::Shared::UsdtCookie);
        self.f.call_func(function, &[context])
    }

    fn is_usdt(&self) -> bool {
        match self.kind {
            super::place::Kind::Probe(probe) => super::plan::provider(probe) == "usdt",
            super::place::Kind::Function(_) => false,
        }
    }
}

/// Bytes of an address given as value or by pointer; 0 when a pointer does not tell.
fn memory_size(e: &Expr) -> u32 {
    match &e.ty {
        Type::Pointer { to, .. } => to.size(),
        ty => ty.size(),
    }
}

impl Unit<'_> {
    /// A kernel symbol whose address is found when the program is loaded.
    pub(super) fn kernel_symbol(&mut self, name: &str) -> ExternId {
        if let Some(at) = self.spec.externs.iter().position(|known| known.name == name) {
            return ExternId(at as u32);
        }
        self.spec.externs.push(Extern {
            name: name.to_owned(),
            weak: true,
            btf_id: None,
            kind: ExternKind::TypelessKsym,
        });
        ExternId(self.spec.externs.len() as u32 - 1)
    }
}
