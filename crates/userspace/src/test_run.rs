//! Running a program on request, with the kernel's checks and answers where the kernel does so too (`BPF_PROG_TEST_RUN`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use skep_engine::{Error, ErrorKind, TestRun, TestRunOutput};
use skep_spec::{ProgId, ProgType, Program};
use skep_sys::Errno;
use skep_vm::{Cpu, PacketBuffer, PacketKind, Task};

use crate::context;
use crate::load::Ready;
use crate::process::{Images, TracedTask};
use crate::session::Shared;

/// The longest context of a `syscall` program.
const MAX_CTX: usize = u16::MAX as usize;

/// What kind of packet programs of a type see; `None` for those that see none.
pub(crate) fn packet_kind(of: ProgType) -> Option<PacketKind> {
    match of {
        ProgType::XDP => Some(PacketKind::Xdp),
        ProgType::SCHED_CLS | ProgType::SCHED_ACT => Some(PacketKind::Link),
        ProgType::CGROUP_SKB | ProgType::LWT_IN | ProgType::LWT_OUT | ProgType::LWT_XMIT | ProgType::LWT_SEG6LOCAL => {
            Some(PacketKind::Network)
        }
        ProgType::SOCKET_FILTER => Some(PacketKind::Socket),
        _ => None,
    }
}

/// Runs a program on given input.
///
/// # Errors
///
/// When the input is not one that its type takes, and when it was stopped because it did wrong.
pub(crate) fn run(shared: &Shared, id: ProgId, ready: &Ready, input: &TestRun<'_>) -> Result<TestRunOutput, Error> {
    let program = shared.spec.program(id);
    let about = |error: Error| error.about(format_args!("cannot run program `{}`", program.name));
    if input.cpu.is_some() {
        let error = Error::new("this engine has no CPUs to choose from").with_kind(ErrorKind::Unsupported);
        return Err(about(error));
    }
    match packet_kind(program.prog_type) {
        Some(kind) => on_packet(shared, id, ready, input, kind).map_err(about),
        None => on_context(shared, id, ready, input).map_err(about),
    }
}

fn on_packet(
    shared: &Shared,
    id: ProgId,
    ready: &Ready,
    input: &TestRun<'_>,
    kind: PacketKind,
) -> Result<TestRunOutput, Error> {
    let mut buffer = PacketBuffer::new(shared.machine().space(), kind).map_err(no_memory)?;
    context::enter(&mut buffer, input.data, input.ctx)?;
    let ctx = buffer.ctx_addr();
    let mut cpu = shared.cpu()?;
    let _turn = shared.turn();
    cpu.set_buffer(Some(Box::new(buffer)));
    let (retval, duration) = repeat(shared, id, ready, &mut cpu, ctx, input.repeat)?;
    let buffer = cpu.buffer().ok_or_else(|| Error::new("the packet is gone"))?;
    Ok(TestRunOutput { retval, data: context::data_out(buffer), ctx: context::ctx_out(buffer, input.ctx), duration })
}

fn on_context(shared: &Shared, id: ProgId, ready: &Ready, input: &TestRun<'_>) -> Result<TestRunOutput, Error> {
    let program = shared.spec.program(id);
    if !input.data.is_empty() {
        return Err(Error::new(format!("programs of type {} take no data, but a context", program.prog_type))
            .with_source(Errno::EINVAL)
            .with_hint("give it with `--ctx FILE|HEX`"));
    }
    if input.ctx.len() > MAX_CTX {
        return Err(Error::new(format!("the context has {} bytes, more than {MAX_CTX}", input.ctx.len()))
            .with_source(Errno::EINVAL));
    }
    let block = shared.machine().space().allocate(input.ctx.len() as u64, true).map_err(no_memory)?;
    block.write(0, input.ctx).ok_or_else(|| Error::new("the context does not fit"))?;
    let mut cpu = shared.cpu()?;
    let _turn = shared.turn();
    let mut images = shared.task_layout.clone().map(|layout| Images::new(layout, shared.machine().space().clone()));
    cpu.set_task(Some(caller(&mut images)));
    let (retval, duration) = repeat(shared, id, ready, &mut cpu, block.addr(), input.repeat)?;
    let ctx = if gives_ctx(program) { block.bytes(0, input.ctx.len()) } else { Vec::new() };
    Ok(TestRunOutput { retval, data: Vec::new(), ctx, duration })
}

/// The task that asks: as in the kernel, a program that runs on request runs in it. Its memory is not shown.
fn caller(images: &mut Option<Images>) -> Arc<dyn Task> {
    let number = |pid: rustix::process::Pid| pid.as_raw_nonzero().get() as u32;
    let (pid, tid) = (number(rustix::process::getpid()), number(rustix::thread::gettid()));
    let task: Arc<dyn Task> = Arc::new(TracedTask::new(pid, tid));
    match images {
        Some(images) => images.show(task),
        None => task,
    }
}

/// Whether the kernel gives the context back.
fn gives_ctx(program: &Program) -> bool {
    ![ProgType::RAW_TRACEPOINT, ProgType::RAW_TRACEPOINT_WRITABLE, ProgType::TRACING].contains(&program.prog_type)
}

/// Runs so often, on what the run before left, as the kernel does; the last result, and the mean time.
fn repeat(
    shared: &Shared,
    id: ProgId,
    ready: &Ready,
    cpu: &mut Cpu,
    ctx: u64,
    times: u32,
) -> Result<(u32, Duration), Error> {
    let times = times.max(1);
    let start = Instant::now();
    let mut result = 0;
    for _ in 0..times {
        // Nobody looks at them.
        if let Some(buffer) = cpu.buffer_mut() {
            buffer.forget_clones();
        }
        result = cpu.run(&ready.program, [ctx, 0]).map_err(|trap| shared.trapped(id, &trap))?;
    }
    Ok((result as u32, start.elapsed() / times))
}

fn no_memory(error: skep_vm::SpaceError) -> Error {
    Error::new(error.to_string()).with_kind(ErrorKind::Other)
}
