//! How are documents read that people name on the command line?

use std::io::Read as _;
use std::path::Path;

/// The text of a file, or of standard input for `-`; of one that is longer than `most` bytes, one byte more than that, so
/// that whoever reads it sees that it is too long.
pub(crate) fn read(file: &Path, most: usize) -> Result<String, String> {
    let name = file.display();
    let (mut bytes, most) = (Vec::new(), most as u64 + 1);
    let result = if file.as_os_str() == "-" {
        std::io::stdin().take(most).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|f| f.take(most).read_to_end(&mut bytes))
    };
    let length = result.map_err(|e| format!("{name}: {e}"))?;
    let cut = length as u64 == most;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        // Cut within a character.
        Err(e) if cut && e.utf8_error().error_len().is_none() => {
            Ok(String::from_utf8_lossy(e.as_bytes()).into_owned())
        }
        Err(_) => Err(format!("{name}: is not UTF-8; save it as UTF-8")),
    }
}
