//! Aggregations: `@m[k] = count()` and its relatives.

use super::Checker;
use super::call::Call;
use super::infer::Shape;
use crate::typed::{Expr, MapRef, Stmt, StmtKind};
use crate::types::{Lhist, Tseries, TseriesAgg, Type};
use crate::{Span, ast};

/// Most buckets of a linear histogram.
const MAX_LHIST: i128 = 1000;

/// Most buckets of a time series: a map's value has at most 32 KiB.
const MAX_TSERIES: i128 = 1_000_000;

const NAMES: [&str; 9] = ["count", "sum", "min", "max", "avg", "stats", "hist", "lhist", "tseries"];

/// The aggregation that an expression calls.
pub(super) fn called(value: &ast::Expr) -> Option<&str> {
    match &value.kind {
        ast::ExprKind::Call { name, .. } if is_aggregation(&name.name) => Some(&name.name),
        _ => None,
    }
}

/// Whether this is the name of an aggregation.
pub(super) fn is_aggregation(name: &str) -> bool {
    NAMES.contains(&name)
}

/// A call that makes this type, for hints.
pub(super) fn example(ty: &Type) -> &'static str {
    match ty {
        Type::Count => "count()",
        Type::Sum { .. } => "sum(retval)",
        Type::Min { .. } => "min(retval)",
        Type::Max { .. } => "max(retval)",
        Type::Avg { .. } => "avg(retval)",
        Type::Stats { .. } => "stats(arg2)",
        Type::Hist { .. } => "hist(retval)",
        Type::Lhist(_) => "lhist(rand, 0, 10, 1)",
        _ => "tseries(rand, 10s, 1)",
    }
}

impl Checker<'_> {
    /// `@m[k] = count()`
    pub(super) fn aggregate(
        &mut self,
        (map, span): (MapRef, Span),
        keys: Option<&[ast::Expr]>,
        value: &ast::Expr,
        out: &mut Vec<Stmt>,
    ) {
        self.slot(map).assigned = true;
        let ast::ExprKind::Call { name, args } = &value.kind else { return };
        let call = Call { name: &name.name, args, span: value.span, name_span: name.span };
        let made = self.aggregation(&call);
        let key = self.map_key(map, keys, span);
        let Some((ty, value)) = made else { return };
        let Some(_) = self.map_assigned(map, &Shape::fixed(ty), span) else { return };
        let time = if call.name == "tseries" { self.series_time(call.span) } else { None };
        if let Some(key) = key {
            out.push(Stmt { kind: StmtKind::Aggregate { map, key, value, time }, span });
        }
    }

    /// The time of a series, where a map of the script has it and not the kernel's clock.
    fn series_time(&mut self, span: Span) -> Option<Expr> {
        let map = self.options.series_clock.clone().filter(|map| self.has_map(map))?;
        let time = self.map_get(&map, None, span, span)?;
        self.cast_to(time, &Type::U64, span)
    }

    /// The map's type and the number that goes into it.
    fn aggregation(&mut self, call: &Call<'_>) -> Option<(Type, Option<Expr>)> {
        let (least, most) = match call.name {
            "count" => (0, 0),
            "hist" => (1, 2),
            "lhist" => (4, 4),
            "tseries" => (3, 4),
            _ => (1, 1),
        };
        self.arity(call, least, most)?;
        if call.name == "count" {
            return Some((Type::Count, None));
        }
        let number = self.aggregated(call);
        let made = match call.name {
            "hist" => self.hist(call),
            "lhist" => self.lhist(call),
            "tseries" => self.tseries(call),
            _ => Some(Type::Count),
        };
        let (number, made) = (number?, made?);
        let signed = number.ty.is_signed();
        let ty = match call.name {
            "sum" => Type::Sum { signed },
            "min" => Type::Min { signed },
            "max" => Type::Max { signed },
            "avg" => Type::Avg { signed },
            "stats" => Type::Stats { signed },
            _ => match made {
                Type::Tseries(shape) => Type::Tseries(Tseries { signed, ..shape }),
                other => other,
            },
        };
        Some((ty, Some(number)))
    }

    /// The number, of 8 bytes.
    fn aggregated(&mut self, call: &Call<'_>) -> Option<Expr> {
        let value = self.arg(call, 0)?;
        let ty = value.ty.clone();
        let number =
            if matches!(ty, Type::Int { .. } | Type::Enum(_) | Type::Bool) { self.as_number(value) } else { None };
        let Some(number) = number else {
            let word = super::call::kind_word(&ty);
            let text = format!("{}() only supports integer arguments ({word} provided)", call.name);
            return self.fail(call.span, text);
        };
        let signed = number.ty.is_signed();
        // Histograms sort negative numbers below everything: their numbers are signed unless they cannot be.
        Some(self.wide(number, signed))
    }

    fn hist(&mut self, call: &Call<'_>) -> Option<Type> {
        let bits = match call.args.len() {
            2 => self.literal_int(call, 1)?,
            _ => 0,
        };
        match bits {
            0..=5 => Some(Type::Hist { bits: bits as u8 }),
            _ => self.fail(
                call.arg_span(1),
                format!("hist() second argument, bits, must be between 0 and 5 ({bits} provided)"),
            ),
        }
    }

    fn lhist(&mut self, call: &Call<'_>) -> Option<Type> {
        let values = [self.literal_int(call, 1), self.literal_int(call, 2), self.literal_int(call, 3)];
        let [min, max, step] = values;
        let (min, max, step) = (min?, max?, step?);
        let bad = |text: String, this: &mut Self| this.fail(call.span, text);
        if step <= 0 {
            return bad(format!("lhist() step must be >= 1 ({step} provided)"), self);
        }
        if max <= min {
            return bad(format!("lhist() min must be less than max (provided min {min} and max {max})"), self);
        }
        if max - min < step {
            return bad(
                format!("lhist() step is too large for the given range (provided step {step} for range {})", max - min),
                self,
            );
        }
        let buckets = (max - min) / step;
        if buckets > MAX_LHIST {
            return bad(format!("lhist() too many buckets, must be <= {MAX_LHIST} (would need {buckets})"), self);
        }
        let (Ok(min), Ok(max), Ok(step)) = (i64::try_from(min), i64::try_from(max), i64::try_from(step)) else {
            return bad("lhist() ranges from -2^63 to 2^63 - 1".to_owned(), self);
        };
        if max.checked_sub(min).is_none() {
            return bad("lhist() range is too large".to_owned(), self);
        }
        Some(Type::Lhist(Lhist { min, max, step }))
    }

    fn tseries(&mut self, call: &Call<'_>) -> Option<Type> {
        self.unstable("unstable_tseries", call.span)?;
        let interval = self.literal_int(call, 1);
        let count = self.literal_int(call, 2);
        let (interval, count) = (interval?, count?);
        let Ok(interval_ns @ 1..) = u64::try_from(interval) else {
            return self.fail(call.arg_span(1), format!("tseries() interval_ns must be >= 1 ({interval} provided)"));
        };
        if !(1..=MAX_TSERIES).contains(&count) {
            let text = format!("tseries() num_intervals must be between 1 and {MAX_TSERIES} ({count} provided)");
            return self.fail(call.arg_span(2), text);
        }
        let agg = match call.args.len() {
            4 => {
                let word = self.literal_text(call, 3)?;
                match word.as_str() {
                    "avg" => TseriesAgg::Avg,
                    "max" => TseriesAgg::Max,
                    "min" => TseriesAgg::Min,
                    "sum" => TseriesAgg::Sum,
                    _ => {
                        let text = format!(
                            "tseries() expects one of the following aggregation functions: avg, max, min, sum (\"{word}\" provided)"
                        );
                        return self.fail(call.arg_span(3), text);
                    }
                }
            }
            _ => TseriesAgg::Last,
        };
        Some(Type::Tseries(Tseries { interval_ns, count: count as u32, agg, signed: true }))
    }
}
