//! Constants of headers.

pub(crate) fn number(_name: &str) -> Option<i64> {
    None
}

pub(crate) fn enumerator(_name: &str) -> Option<i64> {
    None
}
