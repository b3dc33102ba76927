//! What a crash may leave at the end of a file, put right by the next run. Nothing that was
//! acknowledged is touched: that was synced, whole.

use super::names::FileNames;
use flate2::bufread::GzDecoder;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// A gzip member without content. A compressed file begins with one, so that it is readable from
/// its first moment, and ends with one after each sync, so that the next run sees from a few bytes
/// whether the last write is whole.
pub(super) const EMPTY_MEMBER: &[u8; 20] = b"\x1f\x8b\x08\0\0\0\0\0\0\xff\x03\0\0\0\0\0\0\0\0\0";

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

/// Cuts incomplete members off the compressed files with such names in the directory. Files that
/// somebody else has made, or writes to, are left alone.
pub(super) fn cut_incomplete_members(directory: &Path, names: &FileNames, label: &str) {
    names.find(directory, &mut |path| match cut_incomplete(path) {
        Ok(0) => {}
        Ok(bytes) => {
            let path = path.display();
            tracing::warn!("{label} {path} ended in an incomplete gzip member: cut {bytes} bytes");
        }
        Err(error) => {
            tracing::warn!("{label} could not check the end of {}: {error}", path.display());
        }
    });
}

/// Says how many bytes it cut off.
fn cut_incomplete(path: &Path) -> io::Result<u64> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let bytes = file.metadata()?.len();
    if !is_ours_and_cut_short(&file, bytes)? || file.try_lock().is_err() {
        return Ok(0);
    }
    let mut reader = BufReader::new(&file);
    reader.rewind()?;
    let mut complete = 0;
    while !reader.fill_buf()?.is_empty() {
        if io::copy(&mut GzDecoder::new(&mut reader), &mut io::sink()).is_err() {
            break;
        }
        complete = reader.stream_position()?;
    }
    file.set_len(complete)?;
    (&file).seek(SeekFrom::Start(complete))?;
    (&file).write_all(EMPTY_MEMBER)?;
    file.sync_all()?;
    Ok(bytes - complete)
}

fn is_ours_and_cut_short(mut file: &File, bytes: u64) -> io::Result<bool> {
    let mark = EMPTY_MEMBER.len() as u64;
    let mut first = Vec::new();
    file.take(mark).read_to_end(&mut first)?;
    if bytes < mark {
        return Ok(EMPTY_MEMBER.starts_with(&first));
    }
    let mut last = Vec::new();
    file.seek(SeekFrom::Start(bytes - mark))?;
    file.take(mark).read_to_end(&mut last)?;
    Ok(first == EMPTY_MEMBER && last != EMPTY_MEMBER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::read::MultiGzDecoder;
    use flate2::write::GzEncoder;
    use std::fs;

    fn member(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn content(path: &Path) -> String {
        let mut text = String::new();
        MultiGzDecoder::new(File::open(path).unwrap()).read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn whatever_a_kill_has_left_of_a_write_is_cut_off() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("2026/t.host-000000.05.log.gz");
        fs::create_dir(path.parent().unwrap()).unwrap();
        let names = FileNames::new("<DATETIME>.log.gz", "%Y/t.host<REV>.%d");
        let mend = || cut_incomplete_members(directory.path(), &names, "[t/c]");
        let synced = [EMPTY_MEMBER, &member(b"one\ntwo\n")[..], EMPTY_MEMBER].concat();
        let next = [&member(b"three\n")[..], EMPTY_MEMBER].concat();
        for cut in 0..=next.len() {
            fs::write(&path, [&synced[..], &next[..cut]].concat()).unwrap();
            mend();
            let is_whole = cut >= member(b"three\n").len();
            assert_eq!(content(&path), if is_whole { "one\ntwo\nthree\n" } else { "one\ntwo\n" });
            let mended = fs::read(&path).unwrap();
            assert!(mended.ends_with(EMPTY_MEMBER) && mended.starts_with(&synced), "{cut}");
        }
        for cut in 0..EMPTY_MEMBER.len() {
            fs::write(&path, &EMPTY_MEMBER[..cut]).unwrap();
            mend();
            assert_eq!(fs::read(&path).unwrap(), EMPTY_MEMBER);
        }
    }

    #[test]
    fn what_is_whole_or_in_use_or_not_ours_is_left_alone() {
        let directory = tempfile::TempDir::new().unwrap();
        let names = FileNames::new("t.host<REV>.<DATETIME>.log.gz", "%H");
        let cut = [EMPTY_MEMBER, &member(b"one\n")[..9]].concat();
        for (name, bytes) in [
            (
                "t.host-000000.05.log.gz",
                [EMPTY_MEMBER, &member(b"one\n")[..], EMPTY_MEMBER].concat(),
            ),
            // Of another writer, or another topic.
            ("t.host-000001.05.log.gz", member(b"one\n")[..15].to_vec()),
            ("t.host.x-000001.05.log.gz", cut.clone()),
        ] {
            let path = directory.path().join(name);
            fs::write(&path, &bytes).unwrap();
            cut_incomplete_members(directory.path(), &names, "[t/c]");
            assert_eq!(fs::read(&path).unwrap(), bytes, "{name}");
        }
        let path = directory.path().join("t.host-000002.05.log.gz");
        fs::write(&path, &cut).unwrap();
        let writer = File::open(&path).unwrap();
        writer.lock().unwrap();
        cut_incomplete_members(directory.path(), &names, "[t/c]");
        assert_eq!(fs::read(&path).unwrap(), cut);
        drop(writer);
        cut_incomplete_members(directory.path(), &names, "[t/c]");
        assert_eq!(content(&path), "");
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
