//! What a crash may leave at the end of a file, put right by the next run. Nothing that was
//! acknowledged is touched: that was synced, whole.

use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Ends a last line that was cut short, so that it does not swallow the next message.
pub(super) fn end_last_line(mut file: &File) -> io::Result<()> {
    if file.metadata()?.len() == 0 {
        return Ok(());
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    if last == *b"\n" { Ok(()) } else { file.write_all(b"\n") }
}

/// Cuts an incomplete member off the newest compressed file that this format has named: only the
/// last one written can have any. `format`: with its directory and its placeholders.
pub(super) fn newest(format: &Path, label: &str) {
    let Some(path) = newest_of(format) else { return };
    match cut_incomplete(&path) {
        Ok(0) => {}
        Ok(bytes) => {
            let path = path.display();
            tracing::warn!("{label} {path} ended in an incomplete gzip member: cut {bytes} bytes");
        }
        Err(error) => {
            tracing::warn!("{label} could not check the end of {}: {error}", path.display());
        }
    }
}

fn newest_of(format: &Path) -> Option<PathBuf> {
    let text = format.to_str()?;
    let fixed = &text[..text.find("<DATETIME>").into_iter().chain(text.find("<REV>")).min()?];
    let (directory, beginning) = fixed.rsplit_once('/')?;
    let begins = |name: &OsString| {
        let name = name.to_string_lossy();
        name.starts_with(beginning) && name.ends_with(".gz")
    };
    let entries = fs::read_dir(directory).ok()?.flatten();
    let entries = entries.filter(|entry| begins(&entry.file_name()));
    let dated = entries.filter_map(|e| Some((e.metadata().ok()?.modified().ok()?, e.path())));
    dated.max().map(|(_, path)| path)
}

/// Says how many bytes it cut off. A file that somebody writes to is left alone.
fn cut_incomplete(path: &Path) -> io::Result<u64> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    if file.try_lock().is_err() {
        return Ok(0);
    }
    let bytes = file.metadata()?.len();
    let mut reader = BufReader::new(&file);
    let mut complete = 0;
    while !reader.fill_buf()?.is_empty() {
        if io::copy(&mut GzDecoder::new(&mut reader), &mut io::sink()).is_err() {
            break;
        }
        complete = reader.stream_position()?;
    }
    if complete < bytes || bytes == 0 {
        file.set_len(complete)?;
        if complete == 0 {
            // Readers take an empty member, not an empty file.
            let empty = GzEncoder::new(Vec::new(), Compression::default()).finish()?;
            (&file).seek(SeekFrom::Start(0))?;
            (&file).write_all(&empty)?;
        }
        file.sync_all()?;
    }
    Ok(bytes - complete)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn every_cut_of_a_member_is_cut_off() {
        let directory = tempfile::TempDir::new().unwrap();
        let format = directory.path().join("t.host<REV>.<DATETIME>.log.gz");
        let path = directory.path().join("t.host-000000.x.log.gz");
        fs::write(directory.path().join("other.gz"), b"not ours").unwrap();
        let (whole, next) = (member(b"one\ntwo\n"), member(b"three\n"));
        for cut in 0..next.len() {
            fs::write(&path, [&whole[..], &next[..cut]].concat()).unwrap();
            newest(&format, "[t/c]");
            assert_eq!(fs::read(&path).unwrap(), whole, "cut after {cut} bytes");
        }
        fs::write(&path, &whole[..5]).unwrap();
        newest(&format, "[t/c]");
        assert_eq!(fs::read(&path).unwrap(), member(b""));
        let both = [whole, next].concat();
        fs::write(&path, &both).unwrap();
        newest(&format, "[t/c]");
        assert_eq!(fs::read(&path).unwrap(), both);
    }

    #[test]
    fn a_line_cut_short_is_ended() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("t.log");
        for (before, after) in [("", ""), ("one\n", "one\n"), ("one\ntw", "one\ntw\n")] {
            fs::write(&path, before).unwrap();
            let file = OpenOptions::new().read(true).append(true).open(&path).unwrap();
            end_last_line(&file).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), after);
        }
    }
}
