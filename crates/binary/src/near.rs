//! Names that are nearly right.

use skep_engine::Error;
use skep_spec::nearest::did_you_mean;

/// Adds "did you mean" to an error about a name that was not found, when one of `names` is near.
pub fn hint<'n>(error: Error, wanted: &str, names: impl IntoIterator<Item = &'n str>) -> Error {
    match did_you_mean(wanted, names) {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}
