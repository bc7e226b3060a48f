//! Patterns of names, as the multi probes and scripts have them.

/// Whether `name` matches a pattern of letters, `*` (any run) and `?` (any one), as libbpf's multi probes use it. Takes time in
/// proportion to the product of the lengths at worst.
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    // Where to go back to: behind the last star, and the letter after those it has taken.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, n));
                p += 1;
            }
            Some(letter) if *letter == b'?' || *letter == name[n] => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((after, taken)) = star else { return false };
                star = Some((after, taken + 1));
                p = after;
                n = taken + 1;
            }
        }
    }
    pattern[p..].iter().all(|letter| *letter == b'*')
}

/// Whether it is a pattern at all.
pub fn is_pattern(pattern: &str) -> bool {
    pattern.contains(['*', '?'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_a_shell() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("tcp_*", "tcp_sendmsg", true),
            ("tcp_*", "udp_sendmsg", false),
            ("*send*g", "tcp_sendmsg", true),
            ("t?p_*", "tcp_x", true),
            ("t?p", "tp", false),
            ("a*b*c", "axxbyybc", true),
            ("a*b*c", "axxbyyb", false),
            ("", "a", false),
            ("abc", "abc", true),
            ("*s_r*d", "vfs_read", true),
            ("vfs_*", "do_vfs", false),
            ("**", "x", true),
            ("", "", true),
            ("x", "", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
        // No more than a square.
        assert!(!matches(&"a*".repeat(2000), &"a".repeat(1999)));
    }
}
