//! A reactor's counters as figures for monitoring.

use crate::broker::figures::Figure;
use crate::reactor::Counters;

/// What the reactor of a shard has done since the start.
pub(super) fn of(counters: &Counters) -> impl Iterator<Item = Figure> + use<> {
    let Counters { enters, completion_overflows, submissions_refused, .. } = *counters;
    let Counters { accepted, accepts_failed, receives, received_bytes, .. } = *counters;
    let Counters { buffers_exhausted, sends, sent_bytes, short_sends, .. } = *counters;
    let Counters { lingers_cut, wakes, file_operations, .. } = *counters;
    let Counters { file_read_bytes, file_written_bytes, .. } = *counters;
    [
        ("nsqd_shard_ring_enters_total", "system calls that entered the ring", enters),
        (
            "nsqd_shard_ring_overflows_total",
            "turns whose completions did not fit the ring",
            completion_overflows,
        ),
        (
            "nsqd_shard_ring_refusals_total",
            "times the kernel took no submissions",
            submissions_refused,
        ),
        ("nsqd_shard_accepts_total", "connections accepted", accepted),
        ("nsqd_shard_accept_failures_total", "accepts the kernel refused", accepts_failed),
        ("nsqd_shard_receives_total", "receives that delivered bytes", receives),
        ("nsqd_shard_received_bytes_total", "bytes received from clients", received_bytes),
        (
            "nsqd_shard_receive_starvations_total",
            "receives that found no free buffer",
            buffers_exhausted,
        ),
        ("nsqd_shard_sends_total", "sends given to the kernel", sends),
        ("nsqd_shard_sent_bytes_total", "bytes sent to clients", sent_bytes),
        ("nsqd_shard_short_sends_total", "sends the kernel took in part", short_sends),
        ("nsqd_shard_lingers_cut_total", "closing connections that were cut off", lingers_cut),
        ("nsqd_shard_wakes_total", "wake-ups of other shards", wakes),
        ("nsqd_shard_file_operations_total", "operations on files", file_operations),
        ("nsqd_shard_file_read_bytes_total", "bytes read from files", file_read_bytes),
        ("nsqd_shard_file_written_bytes_total", "bytes written to files", file_written_bytes),
    ]
    .into_iter()
    .map(|(name, help, value)| Figure::counter(name, help, value))
}
