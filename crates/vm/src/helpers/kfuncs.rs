//! Functions of the kernel that programs call by name, those that have a meaning here (kernel/bpf/helpers.c, kernel/bpf/arena.c,
//! kernel/bpf/bpf_iter.c, Linux 6.18).
//!
//! Texts are read to their ends before anything is done with them: one that cannot be read is an error even where its start would decide.

use rustix::io::Errno;

use super::dynptr::Dynptr;
use super::memory::{From, fetch_text};
use super::{error, pay};
use crate::environment::Moment;
use crate::helper::HelperFn;
use crate::{Cpu, Stop, TrapKind};

const ALL: &[(&str, HelperFn)] = &[
    ("bpf_iter_num_new", iter_num_new),
    ("bpf_iter_num_next", iter_num_next),
    ("bpf_iter_num_destroy", iter_num_destroy),
    // Memory stays as long as a run, and nobody interrupts a program.
    ("bpf_rcu_read_lock", |_, _| Ok(0)),
    ("bpf_rcu_read_unlock", |_, _| Ok(0)),
    ("bpf_preempt_disable", |_, _| Ok(0)),
    ("bpf_preempt_enable", |_, _| Ok(0)),
    ("bpf_arena_alloc_pages", arena_alloc_pages),
    ("bpf_arena_free_pages", arena_free_pages),
    ("bpf_dynptr_size", |cpu, [at, ..]| Ok(Dynptr::load(cpu, at)?.size())),
    ("bpf_dynptr_is_null", |cpu, [at, ..]| Ok(u64::from(Dynptr::load(cpu, at)?.is_null()))),
    ("bpf_dynptr_adjust", dynptr_adjust),
    ("bpf_dynptr_clone", dynptr_clone),
    ("bpf_dynptr_slice", dynptr_slice),
    ("bpf_dynptr_slice_rdwr", dynptr_slice),
    ("bpf_session_is_return", |cpu, _| Ok(u64::from(moment(cpu, "bpf_session_is_return")?.is_return))),
    ("bpf_session_cookie", |cpu, _| Ok(moment(cpu, "bpf_session_cookie")?.cookie_at)),
    ("bpf_task_acquire", |_, [task, ..]| Ok(task)),
    ("bpf_task_release", |_, _| Ok(0)),
    ("bpf_task_from_pid", task_from_pid),
    ("bpf_rdonly_cast", |_, [object, ..]| Ok(object)),
    ("bpf_copy_from_user_str", copy_from_user_str),
    ("bpf_strcmp", |cpu, [one, two, ..]| compare(cpu, one, two, |byte| byte)),
    ("bpf_strcasecmp", |cpu, [one, two, ..]| compare(cpu, one, two, |byte| byte.to_ascii_lowercase())),
    ("bpf_strlen", |cpu, [text, ..]| answer(text_of(cpu, text, MAX_TEXT)?.map(|text| Some(text.len())))),
    ("bpf_strnlen", strnlen),
    ("bpf_strchr", |cpu, [text, byte, ..]| find(cpu, text, MAX_TEXT, byte as u8)),
    ("bpf_strnchr", |cpu, [text, len, byte, ..]| find(cpu, text, len, byte as u8)),
    ("bpf_strchrnul", strchrnul),
    ("bpf_strrchr", strrchr),
    ("bpf_strspn", |cpu, [text, set, ..]| span(cpu, text, set, true)),
    ("bpf_strcspn", |cpu, [text, set, ..]| span(cpu, text, set, false)),
    ("bpf_strstr", |cpu, [text, part, ..]| part_of(cpu, text, part, MAX_TEXT)),
    ("bpf_strnstr", |cpu, [text, part, len, ..]| part_of(cpu, text, part, len)),
];

/// What is called by a name.
pub(crate) fn kfunc(name: &str) -> Option<(&'static str, HelperFn)> {
    ALL.iter().copied().find(|(known, _)| *known == name)
}

fn misuse(helper: &'static str, message: impl Into<String>) -> Stop {
    TrapKind::Misuse { helper, message: message.into() }.into()
}

/// Which moment of a function it is, of a program that runs for two.
fn moment(cpu: &Cpu, helper: &'static str) -> Result<Moment, Stop> {
    cpu.event()
        .session
        .ok_or_else(|| misuse(helper, "the program does not run at the entry and the return of a function"))
}

/// Most rounds of a loop over numbers (`BPF_MAX_LOOPS`).
const MAX_ROUNDS: i64 = 8 << 20;

/// The state is the number before the next one, and the end.
fn set_range(cpu: &Cpu, at: u64, now: i32, end: i32) -> Result<(), Stop> {
    cpu.space().write(at, &now.to_ne_bytes())?;
    Ok(cpu.space().write(at.wrapping_add(4), &end.to_ne_bytes())?)
}

fn iter_num_new(cpu: &mut Cpu, [at, start, end, ..]: [u64; 5]) -> Result<u64, Stop> {
    let (start, end) = (start as i32, end as i32);
    let wrong = match i64::from(end) - i64::from(start) {
        ..0 => Some(Errno::INVAL),
        rounds if rounds > MAX_ROUNDS => Some(Errno::TOOBIG),
        _ => None,
    };
    let (now, end) = if wrong.is_some() { (0, 0) } else { (start.wrapping_sub(1), end) };
    set_range(cpu, at, now, end)?;
    Ok(wrong.map_or(0, error))
}

fn iter_num_next(cpu: &mut Cpu, [at, ..]: [u64; 5]) -> Result<u64, Stop> {
    let mut state = [0; 8];
    cpu.space().read(at, &mut state)?;
    let words = state.as_chunks().0;
    let (next, end) = (i32::from_ne_bytes(words[0]).wrapping_add(1), i32::from_ne_bytes(words[1]));
    if next >= end {
        set_range(cpu, at, 0, 0)?;
        return Ok(0);
    }
    set_range(cpu, at, next, end)?;
    Ok(at)
}

fn iter_num_destroy(cpu: &mut Cpu, [at, ..]: [u64; 5]) -> Result<u64, Stop> {
    set_range(cpu, at, 0, 0)?;
    Ok(0)
}

fn arena_alloc_pages(cpu: &mut Cpu, [handle, at, count, _, flags]: [u64; 5]) -> Result<u64, Stop> {
    let map = cpu.map(handle)?.0.clone();
    let arena = map.arena().ok_or_else(|| misuse("bpf_arena_alloc_pages", "the map is not an arena"))?;
    pay(cpu, u64::from(map.spec().max_entries))?;
    Ok(if flags == 0 { arena.allocate(at, u64::from(count as u32)) } else { 0 })
}

fn arena_free_pages(cpu: &mut Cpu, [handle, at, count, ..]: [u64; 5]) -> Result<u64, Stop> {
    let map = cpu.map(handle)?.0.clone();
    let arena = map.arena().ok_or_else(|| misuse("bpf_arena_free_pages", "the map is not an arena"))?;
    let count = u64::from(count as u32);
    pay(cpu, count.min(map.spec().max_entries.into()) * crate::map::PAGE_BYTES)?;
    if at != 0 {
        arena.free(at, count);
    }
    Ok(0)
}

fn dynptr_adjust(cpu: &mut Cpu, [at, start, end, ..]: [u64; 5]) -> Result<u64, Stop> {
    let adjusted = Dynptr::load(cpu, at)?.adjusted(u64::from(start as u32), u64::from(end as u32));
    match adjusted {
        Ok(dynptr) => dynptr.store(cpu, at).map(|()| 0),
        Err(errno) => Ok(error(errno)),
    }
}

fn dynptr_clone(cpu: &mut Cpu, [at, to, ..]: [u64; 5]) -> Result<u64, Stop> {
    let dynptr = Dynptr::load(cpu, at)?;
    dynptr.store(cpu, to)?;
    Ok(if dynptr.is_null() { error(Errno::INVAL) } else { 0 })
}

/// All memory behind dynptrs is in one piece, so nothing is copied into the program's buffer.
fn dynptr_slice(cpu: &mut Cpu, [at, off, _, len, _]: [u64; 5]) -> Result<u64, Stop> {
    Ok(Dynptr::load(cpu, at)?.part(u64::from(off as u32), u64::from(len as u32)).unwrap_or(0))
}

/// The current task, if it is that thread: no other is known.
fn task_from_pid(cpu: &mut Cpu, [pid, ..]: [u64; 5]) -> Result<u64, Stop> {
    let task = cpu.task().filter(|task| task.pid_tgid() as u32 == pid as u32);
    Ok(task.map_or(0, |task| task.address()))
}

/// `BPF_F_PAD_ZEROS`.
const F_PAD_ZEROS: u64 = 1;

fn copy_from_user_str(cpu: &mut Cpu, [to, len, addr, flags, _]: [u64; 5]) -> Result<u64, Stop> {
    let len = u64::from(len as u32);
    pay(cpu, len)?;
    cpu.space().check(to, len, crate::Access::Write)?;
    if flags & !F_PAD_ZEROS != 0 {
        return Ok(error(Errno::INVAL));
    }
    if len == 0 {
        return Ok(0);
    }
    let text = fetch_text(cpu, addr, len as usize - 1, From::Task);
    if flags & F_PAD_ZEROS != 0 {
        cpu.space().zero(to, len)?;
    }
    let Some(mut text) = text else { return Ok(error(Errno::FAULT)) };
    text.push(0);
    cpu.space().write(to, &text)?;
    Ok(text.len() as u64)
}

/// The longest text (`XATTR_SIZE_MAX`).
const MAX_TEXT: u64 = 65536;

/// A text, or as much of it as `max` bytes; too long when it has no end within the longest.
fn text_of(cpu: &mut Cpu, addr: u64, max: u64) -> Result<Result<Vec<u8>, Errno>, Stop> {
    let most = max.min(MAX_TEXT) as usize;
    let text = fetch_text(cpu, addr, most, From::Any);
    pay(cpu, text.as_ref().map_or(0, |text| text.len() as u64))?;
    Ok(match text {
        None => Err(Errno::FAULT),
        Some(text) if text.len() as u64 == MAX_TEXT => Err(Errno::TOOBIG),
        Some(text) => Ok(text),
    })
}

/// A place, that there is none, or an error.
fn answer(found: Result<Option<usize>, Errno>) -> Result<u64, Stop> {
    Ok(match found {
        Ok(Some(at)) => at as u64,
        Ok(None) => error(Errno::NOENT),
        Err(errno) => error(errno),
    })
}

fn compare(cpu: &mut Cpu, one: u64, two: u64, like: fn(u8) -> u8) -> Result<u64, Stop> {
    let (one, two) = (text_of(cpu, one, MAX_TEXT)?, text_of(cpu, two, MAX_TEXT)?);
    Ok(match (one, two) {
        (Ok(one), Ok(two)) => match one.into_iter().map(like).cmp(two.into_iter().map(like)) {
            std::cmp::Ordering::Less => -1i64 as u64,
            std::cmp::Ordering::Equal => 0,
            std::cmp::Ordering::Greater => 1,
        },
        (Err(errno), _) | (_, Err(errno)) => error(errno),
    })
}

fn strnlen(cpu: &mut Cpu, [text, max, ..]: [u64; 5]) -> Result<u64, Stop> {
    answer(text_of(cpu, text, max)?.map(|text| Some(text.len())))
}

/// A zero is found at the end of a text, if its end was reached.
fn find(cpu: &mut Cpu, text: u64, max: u64, byte: u8) -> Result<u64, Stop> {
    answer(text_of(cpu, text, max)?.map(|text| {
        let end = (byte == 0 && (text.len() as u64) < max).then_some(text.len());
        text.iter().position(|it| *it == byte).or(end)
    }))
}

fn strchrnul(cpu: &mut Cpu, [text, byte, ..]: [u64; 5]) -> Result<u64, Stop> {
    let found = text_of(cpu, text, MAX_TEXT)?;
    answer(found.map(|text| Some(text.iter().position(|it| *it == byte as u8).unwrap_or(text.len()))))
}

fn strrchr(cpu: &mut Cpu, [text, byte, ..]: [u64; 5]) -> Result<u64, Stop> {
    answer(text_of(cpu, text, MAX_TEXT)?.map(|text| match byte as u8 {
        0 => Some(text.len()),
        byte => text.iter().rposition(|it| *it == byte),
    }))
}

/// How many bytes at the start are of a set, or are not.
fn span(cpu: &mut Cpu, text: u64, set: u64, inside: bool) -> Result<u64, Stop> {
    let (text, set) = (text_of(cpu, text, MAX_TEXT)?, text_of(cpu, set, MAX_TEXT)?);
    let len = |(text, set): (Vec<u8>, Vec<u8>)| text.iter().take_while(|it| set.contains(it) == inside).count();
    answer(text.and_then(|text| Ok((text, set?))).map(|both| Some(len(both))))
}

fn part_of(cpu: &mut Cpu, text: u64, part: u64, max: u64) -> Result<u64, Stop> {
    let (text, part) = (text_of(cpu, text, max)?, text_of(cpu, part, MAX_TEXT)?);
    let (text, part) = match (text, part) {
        (Ok(text), Ok(part)) => (text, part),
        (Err(errno), _) | (_, Err(errno)) => return Ok(error(errno)),
    };
    pay(cpu, text.len() as u64 * part.len() as u64 / 8)?;
    let found = if part.is_empty() { Some(0) } else { text.windows(part.len()).position(|it| it == part) };
    answer(Ok(found))
}
