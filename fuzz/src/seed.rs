//! `seed DIR FILE...`: cuts objects and texts with scripts into `DIR/TARGET/*`, one file a seed, and prints the names of the targets.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

fn main() -> std::io::Result<()> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().unwrap_or_else(|| "seeds".into());
    let files: Vec<Vec<u8>> = args.map(std::fs::read).collect::<Result<_, _>>()?;
    for target in skep_fuzz::TARGETS {
        let dir = Path::new(&dir).join(target.name);
        std::fs::create_dir_all(&dir)?;
        for seed in files.iter().flat_map(|file| (target.seeds)(file)) {
            let mut hasher = DefaultHasher::new();
            seed.hash(&mut hasher);
            std::fs::write(dir.join(format!("{:016x}", hasher.finish())), seed)?;
        }
        println!("{}", target.name);
    }
    Ok(())
}
