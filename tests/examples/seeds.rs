//! Writes the inputs that were made by hand into the corpora of the fuzz targets:
//! `cargo run -p heddle-tests --example seeds -- fuzz/corpus`.

use std::path::PathBuf;
use std::{env, fs, io};

use heddle_tests::replay::frame_path::{Action, seeds};

/// What the target `parse` reads in front of a frame: other addresses, ports, an MTU and a segment
/// size.
const KNOBS: [u8; 16] = [
    198, 51, 100, 9, 203, 0, 113, 5, 0xbc, 0x01, 0x01, 0xbb, 2, 64, 2, 24,
];

fn main() -> io::Result<()> {
    let corpus: PathBuf = env::args_os().nth(1).unwrap_or("fuzz/corpus".into()).into();
    for (name, bytes) in seeds::seeds() {
        let first_frame = Action::list(&bytes)
            .into_iter()
            .find_map(|action| match action {
                Action::Raw(_, frame) => Some(frame),
                _ => None,
            });
        if let Some(frame) = first_frame {
            let input = [&KNOBS[..], &frame].concat();
            fs::write(corpus.join("parse").join(&name), input)?;
        }
        fs::write(corpus.join("frame_path").join(&name), bytes)?;
    }
    Ok(())
}
