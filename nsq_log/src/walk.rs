//! One segment, from its first record to its last, and over damage to the next good one.

use crate::files::{BLOCK_BYTES, Backend, SourceFile};
use crate::logs::FoundSegment;
use crate::progress::Progress;
use crate::window::Window;
use ringmain_storage::record::{Header, RECORD_HEADER_BYTES};
use ringmain_storage::scan::{Damage, Item, Place, Walk};
use ringmain_storage::segment::DATA_START;
use std::io;
use std::ops::Range;

/// What a walk meets.
#[derive(Debug)]
pub(crate) enum Met<'a> {
    /// A good record with its payload.
    Record(Header, &'a [u8]),
    /// Between the records there is something where zeros should be.
    Padding(u64),
    /// Damage up to the next good record, or to the end.
    Damaged(Damage),
}

/// What is not known before a segment was walked through.
#[derive(Debug, Default)]
pub(crate) struct Walked {
    /// Where the device did not give what it holds.
    pub(crate) unreadable: Vec<Range<u64>>,
    /// The header and its copy at the end of the file are not the same.
    pub(crate) has_odd_header: bool,
}

/// Shows everything in a segment, in order; goes on for as long as it is told to.
///
/// # Errors
/// When the file cannot be opened.
pub(crate) async fn walk(
    backend: Backend,
    segment: &FoundSegment,
    progress: &Progress,
    mut visit: impl FnMut(Met<'_>) -> bool,
) -> io::Result<Walked> {
    let file = SourceFile::open(backend, &segment.path).await?.patched(segment.patches.clone());
    let has_odd_header = !has_equal_headers(&file).await;
    let outline = &segment.outline;
    let (end, seeds) = (outline.end_offset, outline.identity.seeds());
    let mut place = Place::new(outline.identity.id, DATA_START, outline.sequences.start);
    let mut need_bytes = RECORD_HEADER_BYTES as u64;
    let mut window = Window::new(file, progress.clone());
    let mut goes_on = true;
    while goes_on && place.offset < end {
        let origin = place.offset;
        let bytes = window.bytes(origin, need_bytes).await;
        if (bytes.len() as u64) < need_bytes && origin + need_bytes <= end {
            // The file ends before its records do.
            place.lost_since.get_or_insert(origin);
            break;
        }
        let mut walk = Walk { bytes, origin, end, seeds, place, need_bytes };
        while goes_on && let Some(item) = walk.next() {
            goes_on = show(item, bytes, origin, &mut visit);
        }
        (place, need_bytes) = (walk.place, walk.need_bytes);
    }
    if goes_on {
        let mut rest = Walk { bytes: &[], origin: end, end, seeds, place, need_bytes };
        if let Some(Item::Damaged(damage)) = rest.finish(outline.sequences.end) {
            visit(Met::Damaged(damage));
        }
    }
    Ok(Walked { unreadable: window.unreadable().to_vec(), has_odd_header })
}

fn show(item: Item, bytes: &[u8], origin: u64, visit: &mut impl FnMut(Met<'_>) -> bool) -> bool {
    match item {
        Item::Damaged(damage) => visit(Met::Damaged(damage)),
        Item::Record(header, offset, payload) => {
            let record_end = payload.start - RECORD_HEADER_BYTES + header.record_bytes();
            let padding = bytes.get(payload.end..record_end).unwrap_or_default();
            let is_clean = padding.iter().all(|byte| *byte == 0);
            let padding_at = origin + payload.end as u64;
            debug_assert!(offset < padding_at);
            let payload = bytes.get(payload).unwrap_or_default();
            visit(Met::Record(header, payload)) && (is_clean || visit(Met::Padding(padding_at)))
        }
    }
}

/// Whether the first block and the last are the same, as they were written.
async fn has_equal_headers(file: &SourceFile) -> bool {
    let copy = file.bytes().saturating_sub(BLOCK_BYTES) / BLOCK_BYTES * BLOCK_BYTES;
    let first = file.read_blocks(0..BLOCK_BYTES).await;
    let last = file.read_blocks(copy..copy + BLOCK_BYTES).await;
    let is_read = first.unreadable.is_empty() && last.unreadable.is_empty();
    is_read && *first.chunk == *last.chunk
}
