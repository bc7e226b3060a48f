//! What all CPUs' parts of an aggregation make together.

use skep_script::Type;
use skep_script::types::{Tseries, TseriesAgg, hist_buckets};

use super::number::sign_extend;
use super::read_u64;

/// The value of one key of a map.
#[derive(Clone, Debug, PartialEq)]
pub enum Total {
    /// A plain value, by its type.
    Plain(Vec<u8>),
    /// `count`, `sum`, `min`, `max`, `avg`.
    Number(i128),
    /// `stats`
    Stats {
        /// Number of values.
        count: u64,
        /// Their sum.
        total: i128,
    },
    /// `hist`, `lhist`: counts by bucket.
    Buckets(Vec<u64>),
    /// `tseries`: values by the number of their interval, ascending.
    Series(Vec<(u64, i128)>),
}

impl Total {
    /// Puts together what `bytes` holds: one value for each CPU, each `ty.size()` bytes rounded up to 8. Plain integers of
    /// the CPUs are added up; of other plain values the first that is not all zeroes counts.
    pub fn of(ty: &Type, bytes: &[u8]) -> Total {
        let size = (ty.size() as usize).next_multiple_of(8).max(8);
        let number = |raw: u64, signed: bool| if signed { i128::from(raw as i64) } else { i128::from(raw) };
        let pairs = || bytes.chunks(size).map(|cpu| (read_u64(cpu, 0), read_u64(cpu, 8)));
        match ty {
            Type::Count => Total::Number(bytes.chunks(size).map(|cpu| i128::from(read_u64(cpu, 0))).sum()),
            Type::Sum { signed } => {
                let sum = bytes.chunks(size).fold(0u64, |sum, cpu| sum.wrapping_add(read_u64(cpu, 0)));
                Total::Number(number(sum, *signed))
            }
            Type::Min { signed } | Type::Max { signed } => {
                let set = pairs().filter(|(_, set)| *set != 0).map(|(value, _)| number(value, *signed));
                let found = if matches!(ty, Type::Min { .. }) { set.min() } else { set.max() };
                Total::Number(found.unwrap_or(0))
            }
            Type::Avg { signed } | Type::Stats { signed } => {
                let (total, count) = pairs().fold((0u64, 0u64), |(total, count), (value, n)| {
                    (total.wrapping_add(value), count.wrapping_add(n))
                });
                let total = number(total, *signed);
                match ty {
                    Type::Avg { .. } => Total::Number(mean(total, count)),
                    _ => Total::Stats { count, total },
                }
            }
            Type::Hist { bits } => Total::buckets(hist_buckets(*bits), size, bytes),
            Type::Lhist(shape) => Total::buckets(shape.buckets(), size, bytes),
            Type::Tseries(shape) => Total::Series(series(*shape, size, bytes)),
            Type::Int { .. } if bytes.len() > size => {
                let sum =
                    bytes.chunks(size).map(|cpu| super::number::read_int(cpu, ty.size() as usize, ty.is_signed()));
                Total::Plain(low_bytes(sum.sum(), ty.size() as usize))
            }
            _ => {
                let size_used = ty.size() as usize;
                let cpus = || bytes.chunks(size).map(|cpu| &cpu[..cpu.len().min(size_used)]);
                let written = cpus().find(|cpu| cpu.iter().any(|byte| *byte != 0));
                Total::Plain(written.or_else(|| cpus().next()).unwrap_or_default().to_vec())
            }
        }
    }

    fn buckets(count: u32, size: usize, bytes: &[u8]) -> Total {
        let mut buckets = vec![0u64; count as usize];
        for cpu in bytes.chunks(size) {
            for (index, bucket) in buckets.iter_mut().enumerate() {
                *bucket += read_u64(cpu, index * 8);
            }
        }
        Total::Buckets(buckets)
    }

    /// What maps are sorted by: the number, the count of all buckets, the last interval. Stats go by their mean.
    pub(super) fn rank(&self, ty: &Type) -> i128 {
        match self {
            Total::Plain(bytes) => super::number::read_int(bytes, ty.size() as usize, ty.is_signed()),
            Total::Number(number) => *number,
            Total::Stats { count, total } => mean(*total, *count),
            Total::Buckets(buckets) => buckets.iter().map(|count| i128::from(*count)).sum(),
            Total::Series(series) => series.last().map_or(0, |(interval, _)| i128::from(*interval)),
        }
    }

    /// Whether nothing was ever put into it: arrays of one value are always there.
    pub fn is_untouched(&self) -> bool {
        match self {
            Total::Plain(bytes) => bytes.iter().all(|byte| *byte == 0),
            Total::Number(number) => *number == 0,
            Total::Stats { count, .. } => *count == 0,
            Total::Buckets(buckets) => buckets.iter().all(|count| *count == 0),
            Total::Series(series) => series.is_empty(),
        }
    }
}

/// The lower `size` bytes of a number, in the machine's order.
fn low_bytes(number: i128, size: usize) -> Vec<u8> {
    let bytes = (number as u64).to_ne_bytes();
    let size = size.min(bytes.len());
    if cfg!(target_endian = "big") { bytes[bytes.len() - size..].to_vec() } else { bytes[..size].to_vec() }
}

/// The mean, towards zero; 0 of nothing.
pub(super) fn mean(total: i128, count: u64) -> i128 {
    if count == 0 { 0 } else { total / i128::from(count) }
}

fn series(shape: Tseries, size: usize, bytes: &[u8]) -> Vec<(u64, i128)> {
    use std::collections::BTreeMap;
    /// Bytes before the first bucket, and of a bucket.
    const HEAD: usize = 16;
    const BUCKET: usize = 24;
    let mut merged: BTreeMap<u64, (i128, u64)> = BTreeMap::new();
    for cpu in bytes.chunks(size) {
        for bucket in 0..shape.count as usize {
            let at = HEAD + bucket * BUCKET;
            let (epoch, raw, count) = (read_u64(cpu, at), read_u64(cpu, at + 8), read_u64(cpu, at + 16));
            if epoch == 0 || count == 0 {
                continue;
            }
            let value = if shape.signed { i128::from(sign_extend(raw, 8)) } else { i128::from(raw) };
            let entry = merged.entry(epoch).or_insert((value, 0));
            entry.0 = match (shape.agg, entry.1) {
                (_, 0) => value,
                (TseriesAgg::Last, _) => value,
                (TseriesAgg::Sum | TseriesAgg::Avg, _) => entry.0 + value,
                (TseriesAgg::Min, _) => entry.0.min(value),
                (TseriesAgg::Max, _) => entry.0.max(value),
            };
            entry.1 += count;
        }
    }
    let newest = merged.keys().next_back().copied().unwrap_or(0);
    let oldest = (newest + 1).saturating_sub(u64::from(shape.count));
    merged
        .into_iter()
        .filter(|(epoch, _)| *epoch >= oldest)
        .map(|(epoch, (value, count))| (epoch, if shape.agg == TseriesAgg::Avg { mean(value, count) } else { value }))
        .collect()
}
