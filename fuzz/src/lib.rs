//! What the fuzz targets share: the inputs that each of them starts from.

use std::fs;
use std::path::Path;

/// Writes the seeds into the corpus of a target, before the fuzzer reads it.
pub fn write_seeds(target: &str, seeds: &[Vec<u8>]) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&corpus).expect("the folder of the corpus");
    for (n, seed) in seeds.iter().enumerate() {
        fs::write(corpus.join(format!("seed-{n}")), seed).expect("a seed");
    }
}
