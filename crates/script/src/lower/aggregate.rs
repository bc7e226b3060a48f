//! `count()` and its relatives: changing them, and reading them as numbers.

use skep_insn::{AluOp, Cond, Width, helpers};

use super::place::Body;
use crate::ir::{Operand, Value};
use crate::typed::{Expr, MapRef};
use crate::types::{Lhist, Tseries, TseriesAgg, Type, hist_buckets};

impl<'a> Body<'_, 'a> {
    /// `@m[k] = count()` and its relatives.
    pub(crate) fn aggregate(
        &mut self,
        map: MapRef,
        key: Option<&'a Expr>,
        value: Option<&'a Expr>,
        time: Option<&'a Expr>,
    ) {
        let mark = self.mark();
        let ty = self.value_type(map);
        let signed_value = value.is_some_and(|value| value.ty.is_signed());
        let number = match value {
            Some(value) => self.operand(value),
            None => Operand::Imm(1),
        };
        match ty {
            Type::Count | Type::Sum { .. } => self.change(map, key, |this, at| this.add_to(at, 0, number)),
            Type::Avg { .. } | Type::Stats { .. } => self.change(map, key, |this, at| {
                this.add_to(at, 0, number);
                this.add_to(at, 8, Operand::Imm(1));
            }),
            Type::Min { signed } | Type::Max { signed } => {
                let cond = match (ty, signed) {
                    (Type::Min { .. }, true) => Cond::SLt,
                    (Type::Min { .. }, false) => Cond::Lt,
                    (_, true) => Cond::SGt,
                    (_, false) => Cond::Gt,
                };
                let number = self.value_of(number);
                self.change(map, key, |this, at| {
                    let (compare, set, done) = (this.f.block(0), this.f.block(0), this.f.block(0));
                    let is_set = this.f.load(8, at, 8);
                    this.f.branch_if(is_set, compare, set);
                    this.f.switch_to(compare);
                    let best = this.f.load(8, at, 0);
                    this.f.branch(cond, Width::W64, number, best, (set, &[]), (done, &[]));
                    this.f.switch_to(set);
                    this.f.store(8, at, 0, number);
                    this.f.store(8, at, 8, 1);
                    this.f.jump(done, &[]);
                    this.f.switch_to(done);
                });
            }
            Type::Hist { bits } => {
                let number = self.value_of(number);
                let bucket = self.hist_bucket(number, signed_value, *bits);
                self.change(map, key, |this, at| this.count_bucket(at, bucket, hist_buckets(*bits)));
            }
            Type::Lhist(shape) => {
                let number = self.value_of(number);
                let bucket = self.lhist_bucket(number, signed_value, *shape);
                self.change(map, key, |this, at| this.count_bucket(at, bucket, shape.buckets()));
            }
            Type::Tseries(shape) => {
                let number = self.value_of(number);
                let time = match time {
                    Some(time) => self.scalar(time),
                    None => self.f.call(helpers::KTIME_GET_BOOT_NS, &[]),
                };
                self.change(map, key, |this, at| this.add_to_series(at, number, time, *shape));
            }
            _ => {}
        }
        self.release(mark);
    }

    fn value_of(&mut self, operand: Operand) -> Value {
        match operand {
            Operand::Value(value) => value,
            Operand::Imm(number) => self.number(i64::from(number)),
        }
    }

    /// Adds to a u64 of this CPU.
    fn add_to(&mut self, at: Value, off: i16, number: Operand) {
        if self.preemptible() {
            let number = self.value_of(number);
            self.f.atomic_add(8, at, off, number);
        } else {
            let old = self.f.load(8, at, off);
            let new = self.f.add(old, number);
            self.f.store(8, at, off, new);
        }
    }

    /// Adds one to bucket `bucket`, below `count`.
    fn count_bucket(&mut self, at: Value, bucket: Value, count: u32) {
        // Right behind the check, so that the verifier still knows.
        let bucket = self.at_most(bucket, count - 1);
        let distance = self.f.alu(AluOp::Lsh, Width::W64, bucket, 3);
        let at = self.f.add(at, distance);
        self.add_to(at, 0, Operand::Imm(1));
    }

    /// Bucket of `hist(n, bits)`, see [`hist_buckets`].
    fn hist_bucket(&mut self, n: Value, signed: bool, bits: u8) -> Value {
        let join = self.f.block(1);
        if signed {
            let (zero, not_negative) = (self.number(0), self.f.block(0));
            self.f.branch(Cond::SLt, Width::W64, n, 0, (join, &[zero]), (not_negative, &[]));
            self.f.switch_to(not_negative);
        }
        let (small, large) = (self.f.block(0), self.f.block(0));
        self.f.branch(Cond::Lt, Width::W64, n, 1i32 << bits, (small, &[]), (large, &[]));
        self.f.switch_to(small);
        let bucket = self.f.add(n, 1);
        self.f.jump(join, &[bucket]);
        self.f.switch_to(large);
        let log2 = self.log2(n);
        let level = if bits == 0 { log2 } else { self.f.add(log2, -i32::from(bits)) };
        let next = self.f.add(level, 1);
        let bucket = if bits == 0 {
            self.f.add(next, 1)
        } else {
            let first = self.f.alu(AluOp::Lsh, Width::W64, next, i32::from(bits));
            let part = self.f.alu(AluOp::Rsh, Width::W64, n, level);
            let part = self.f.alu(AluOp::And, Width::W64, part, (1i32 << bits) - 1);
            let bucket = self.f.add(first, part);
            self.f.add(bucket, 1)
        };
        self.f.jump(join, &[bucket]);
        self.f.switch_to(join);
        self.f.param(join, 0)
    }

    /// Number of the highest bit of `n`, which is not 0: halves the rest six times, without branches.
    fn log2(&mut self, n: Value) -> Value {
        let mut rest = n;
        let mut log2 = None;
        for step in [32u32, 16, 8, 4, 2, 1] {
            // 1 when the rest has a bit at `step` or above.
            let above = if step == 32 {
                let high = self.f.alu(AluOp::Rsh, Width::W64, rest, 32);
                self.f.neg(Width::W64, high)
            } else {
                let most = self.number((1 << step) - 1);
                self.f.alu(AluOp::Sub, Width::W64, most, rest)
            };
            let above = self.f.alu(AluOp::Rsh, Width::W64, above, 63);
            let shift = match step.trailing_zeros() {
                0 => above,
                by => self.f.alu(AluOp::Lsh, Width::W64, above, by as i32),
            };
            if step > 1 {
                rest = self.f.alu(AluOp::Rsh, Width::W64, rest, shift);
            }
            log2 = Some(match log2 {
                None => shift,
                Some(log2) => self.f.add(log2, shift),
            });
        }
        log2.expect("six steps were made")
    }

    /// Bucket of `lhist`: 0 below, the last one above.
    fn lhist_bucket(&mut self, n: Value, signed: bool, shape: Lhist) -> Value {
        let join = self.f.block(1);
        let (below, above) = if signed { (Cond::SLt, Cond::SGe) } else { (Cond::Lt, Cond::Ge) };
        if signed || shape.min > 0 {
            let (zero, next) = (self.number(0), self.f.block(0));
            let min = self.f.operand(shape.min);
            self.f.branch(below, Width::W64, n, min, (join, &[zero]), (next, &[]));
            self.f.switch_to(next);
        }
        if signed || shape.max >= 0 {
            let (last, next) = (self.number(i64::from(shape.buckets()) - 1), self.f.block(0));
            let max = self.f.operand(shape.max);
            self.f.branch(above, Width::W64, n, max, (join, &[last]), (next, &[]));
            self.f.switch_to(next);
        }
        let min = self.f.operand(shape.min.wrapping_neg());
        let distance = self.f.add(n, min);
        let step = self.f.operand(shape.step.max(1));
        let bucket = self.f.alu(AluOp::Div, Width::W64, distance, step);
        let bucket = self.f.add(bucket, 1);
        self.f.jump(join, &[bucket]);
        self.f.switch_to(join);
        self.f.param(join, 0)
    }

    fn add_to_series(&mut self, at: Value, number: Value, time: Value, shape: Tseries) {
        let interval = self.f.operand(shape.interval_ns.max(1) as i64);
        let epoch = self.f.alu(AluOp::Div, Width::W64, time, interval);
        let bucket = self.f.alu(AluOp::Mod, Width::W64, epoch, shape.count.max(1) as i32);
        let bucket = self.at_most(bucket, shape.count.max(1) - 1);
        let distance = self.f.alu(AluOp::Mul, Width::W64, bucket, 24);
        let at = self.f.add(at, distance);
        let (fresh, update, done) = (self.f.block(0), self.f.block(0), self.f.block(0));
        let known = self.f.load(8, at, 16);
        self.f.branch(Cond::Eq, Width::W64, known, epoch, (update, &[]), (fresh, &[]));
        self.f.switch_to(fresh);
        self.f.store(8, at, 16, epoch);
        self.f.store(8, at, 24, number);
        self.f.store(8, at, 32, 1);
        self.f.jump(done, &[]);
        self.f.switch_to(update);
        let cond = match (shape.agg, shape.signed) {
            (TseriesAgg::Min, true) => Some(Cond::SLt),
            (TseriesAgg::Min, false) => Some(Cond::Lt),
            (TseriesAgg::Max, true) => Some(Cond::SGt),
            (TseriesAgg::Max, false) => Some(Cond::Gt),
            _ => None,
        };
        let count = self.f.load(8, at, 32);
        let count = self.f.add(count, 1);
        self.f.store(8, at, 32, count);
        match (cond, shape.agg) {
            (Some(cond), _) => {
                let better = self.f.block(0);
                let best = self.f.load(8, at, 24);
                self.f.branch(cond, Width::W64, number, best, (better, &[]), (done, &[]));
                self.f.switch_to(better);
                self.f.store(8, at, 24, number);
            }
            (None, TseriesAgg::Last) => self.f.store(8, at, 24, number),
            (None, _) => {
                let total = self.f.load(8, at, 24);
                let total = self.f.add(total, number);
                self.f.store(8, at, 24, total);
            }
        }
        self.f.jump(done, &[]);
        self.f.switch_to(done);
    }

    /// An aggregation as a number: over all CPUs; 0 when the key is absent.
    pub(crate) fn read_aggregation(&mut self, map: MapRef, key: Option<&'a Expr>) -> Value {
        let key = self.key(key);
        let pointer = self.map(map);
        self.read_aggregation_at(map, pointer, key)
    }

    /// As [`Body::read_aggregation`], with map and key as helpers take them.
    pub(crate) fn read_aggregation_at(&mut self, map: MapRef, pointer: Value, key: Value) -> Value {
        let ty = self.value_type(map);
        let percpu = self.unit.maps[map.0 as usize].percpu;
        let cpus = if percpu { self.unit.target.possible_cpus().max(1) } else { 1 };
        // CPU, and two sums: total and count, or the best and whether there is one.
        let (head, body, there, next, done) =
            (self.f.block(3), self.f.block(0), self.f.block(0), self.f.block(2), self.f.block(2));
        let zero = self.number(0);
        self.f.jump(head, &[zero, zero, zero]);
        self.f.switch_to(head);
        let (cpu, first, second) = (self.f.param(head, 0), self.f.param(head, 1), self.f.param(head, 2));
        self.f.branch(Cond::Lt, Width::W64, cpu, cpus as i32, (body, &[]), (done, &[first, second]));
        self.f.switch_to(body);
        let at = if percpu {
            self.f.call(helpers::MAP_LOOKUP_PERCPU_ELEM, &[pointer, key, cpu])
        } else {
            self.f.call(helpers::MAP_LOOKUP_ELEM, &[pointer, key])
        };
        self.f.branch(Cond::Ne, Width::W64, at, 0, (there, &[]), (done, &[first, second]));
        self.f.switch_to(there);
        match ty {
            Type::Min { signed } | Type::Max { signed } => {
                let cond = match (ty, signed) {
                    (Type::Min { .. }, true) => Cond::SLt,
                    (Type::Min { .. }, false) => Cond::Lt,
                    (_, true) => Cond::SGt,
                    (_, false) => Cond::Gt,
                };
                let (set, compare, better) = (self.f.block(0), self.f.block(0), self.f.block(0));
                let is_set = self.f.load(8, at, 8);
                self.f.branch(Cond::Ne, Width::W64, is_set, 0, (set, &[]), (next, &[first, second]));
                self.f.switch_to(set);
                let own = self.f.load(8, at, 0);
                self.f.branch_if(second, compare, better);
                self.f.switch_to(compare);
                self.f.branch(cond, Width::W64, own, first, (better, &[]), (next, &[first, second]));
                self.f.switch_to(better);
                let one = self.number(1);
                self.f.jump(next, &[own, one]);
            }
            _ => {
                let own = self.f.load(8, at, 0);
                let first = self.f.add(first, own);
                let second = match ty {
                    Type::Avg { .. } | Type::Stats { .. } => {
                        let own = self.f.load(8, at, 8);
                        self.f.add(second, own)
                    }
                    _ => second,
                };
                self.f.jump(next, &[first, second]);
            }
        }
        self.f.switch_to(next);
        let cpu = self.f.add(cpu, 1);
        let (first, second) = (self.f.param(next, 0), self.f.param(next, 1));
        self.f.jump(head, &[cpu, first, second]);
        self.f.switch_to(done);
        let (first, second) = (self.f.param(done, 0), self.f.param(done, 1));
        match ty {
            Type::Avg { signed } | Type::Stats { signed } => {
                let op = if *signed { AluOp::SDiv } else { AluOp::Div };
                self.f.alu(op, Width::W64, first, second)
            }
            _ => first,
        }
    }
}
