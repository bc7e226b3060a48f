//! The smallest application: open an object, load it, exit. `load FILE.bpf.o`

use skep::Object;

fn main() -> Result<(), skep::Error> {
    let Some(file) = std::env::args_os().nth(1) else {
        eprintln!("usage: load FILE.bpf.o");
        std::process::exit(2);
    };
    Object::open(file)?.load().map(drop)
}
